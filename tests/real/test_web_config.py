"""A daemon and a real Prometheus with TLS, a client certificate and a password between them."""

import base64
import os
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from tests.certificates import Authority
from tests.real.parts import COMMAND, REPOSITORY, Daemon, Prometheus, until

SILENT, FLOOD, FLOODERS, SCRAPES = 50, 200, 6, 20
ATTEMPTS = 3
"""What other programs do in one of them delays nothing in all of them."""
MOST_MORE_SECONDS = 0.05
MOST_BESIDE_FLOOD_SECONDS = 0.2
PASSWORD = "open sesame"
COST = 10


class SecureDaemon(Daemon):
    """One that asks for a client certificate and a password."""

    def __init__(self, directory: Path, kind: str = "RequireAndVerifyClientCert") -> None:
        self.authority = Authority(directory / "pki")
        self.web_config = directory / "web.yml"
        super().__init__(directory, f"--web.config.file={self.web_config}")
        self.url = f"https://localhost:{self.port}"
        self.pair = self.authority.sign("server", "DNS:localhost", "IP:127.0.0.1")
        self.client = self.authority.sign("prometheus", "DNS:prometheus.example")
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(COST)).decode()
        self.rules = (
            "tls_server_config:\n"
            f"  cert_file: {os.path.relpath(self.pair[0], directory)}\n"
            f"  key_file: {self.pair[1]}\n"
            f"  client_ca_file: {self.authority.path}\n"
            f"  client_auth_type: {kind}\n"
            f"basic_auth_users: {{prometheus: '{hashed}'}}\n"
        )
        self.web_config.write_text(self.rules)
        self.context = ssl.create_default_context(cafile=self.authority.path)
        self.context.load_cert_chain(*self.client)

    def is_ready(self) -> bool:
        return self.ask("/-/ready")[0] == 200

    def ask(self, path: str, password: str = PASSWORD) -> tuple[int, bytes]:
        """Status and body."""
        said = base64.b64encode(f"prometheus:{password}".encode()).decode()
        request = urllib.request.Request(
            self.url + path, headers={"Authorization": f"Basic {said}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10, context=self.context) as response:
                return response.status, bytes(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def shown(self) -> float | None:
        """The state of the web config on the page: 1 good, 0 broken; None without a page."""
        _, page = self.ask("/metrics")
        name = 'emissions_collector_success{collector="web_config"} '
        found = [row for row in page.decode().splitlines() if row.startswith(name)]
        return float(found[0].removeprefix(name)) if found else None

    def scrape_seconds(self) -> float:
        """The middle of some scrapes, each on a connection of its own."""
        took = []
        for _ in range(SCRAPES):
            began = time.monotonic()
            assert self.ask("/metrics")[0] == 200
            took.append(time.monotonic() - began)
        return statistics.median(took)

    def write(self, text: str) -> None:
        new = self.directory / "new.yml"
        new.write_text(text)
        new.replace(self.web_config)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureDaemon]:
    daemon = SecureDaemon(tmp_path_factory.mktemp("secure"))
    daemon.start()
    yield daemon
    daemon.stop()


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def test_prometheus_scrapes_with_a_certificate_and_a_password(
    daemon: SecureDaemon, tmp_path: Path
) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus on this machine: `make test` as root installs it")
    job: dict[str, Any] = {
        "job_name": "secure",
        "scheme": "https",
        "tls_config": {
            "ca_file": daemon.authority.path,
            "cert_file": daemon.client[0],
            "key_file": daemon.client[1],
            "server_name": "localhost",
        },
        "basic_auth": {"username": "prometheus", "password": PASSWORD},
        "static_configs": [{"targets": [f"127.0.0.1:{daemon.port}"]}],
    }
    prometheus = Prometheus(tmp_path / "prometheus", {}, more=(job,))
    try:
        until(lambda: prometheus.query('up{job="secure"} == 1'), what="prometheus scrapes")
        until(lambda: prometheus.query("emissions_exporter_build_info"), what="what it scraped")
    finally:
        prometheus.stop()


def test_pages_and_the_interface_are_there_with_the_password_only(daemon: SecureDaemon) -> None:
    for path in ("/", "/runs", "/metrics", "/api/v1/snapshot", "/api/v1/intensity"):
        assert daemon.ask(path)[0] == 200
        assert daemon.ask(path, "wrong")[0] == 401


def test_a_healthcheck_over_the_agent_socket_needs_neither(daemon: SecureDaemon) -> None:
    flags = [f"--web.listen-address=127.0.0.1:{daemon.port}"]
    asked = command("healthcheck", f"--socket.path={daemon.socket}", *flags)
    assert (asked.returncode, asked.stdout) == (0, "healthy\n")


def test_over_tcp_a_healthcheck_works_where_no_certificate_is_demanded(tmp_path: Path) -> None:
    daemon = SecureDaemon(tmp_path, "VerifyClientCertIfGiven")
    daemon.start()
    try:
        asked = command(
            "healthcheck",
            f"--socket.path={tmp_path}/no.sock",
            f"--web.listen-address=127.0.0.1:{daemon.port}",
            f"--web.config.file={daemon.web_config}",
        )
        assert (asked.returncode, asked.stdout) == (0, "healthy\n")
    finally:
        daemon.stop()


def test_silent_tls_clients_do_not_delay_a_scrape(
    daemon: SecureDaemon,
) -> None:
    delays = []
    for _ in range(ATTEMPTS):
        alone = daemon.scrape_seconds()
        with ExitStack() as silent:
            for _ in range(SILENT):
                silent.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
            delays.append(daemon.scrape_seconds() - alone)
        if delays[-1] < MOST_MORE_SECONDS:
            return
    pytest.fail(f"each time they delayed a scrape, by {delays} s")


@pytest.mark.rerun_once(reason="how long a scrape takes beside whatever else this machine does")
def test_a_flood_of_wrong_passwords_does_not_delay_a_scrape_with_the_right_one(
    daemon: SecureDaemon,
) -> None:
    alone = daemon.scrape_seconds()
    with ThreadPoolExecutor(FLOODERS) as crowd:
        flood = [crowd.submit(daemon.ask, "/metrics", f"wrong{i}") for i in range(FLOOD)]
        beside_flood = daemon.scrape_seconds()
        assert not all(each.done() for each in flood), "it was over before it was measured"
        statuses = {each.result()[0] for each in flood}
    assert statuses <= {401, 503}
    # In a line behind the checks it would be half a second and more.
    assert beside_flood - alone < MOST_BESIDE_FLOOD_SECONDS


def test_a_broken_file_keeps_the_old_one_through_sighup_and_is_shown(tmp_path: Path) -> None:
    daemon = SecureDaemon(tmp_path)
    daemon.start()
    try:
        assert daemon.shown() == 1
        daemon.write(daemon.rules + "tls_server_konfig: {}\n")
        until(lambda: daemon.shown() == 0, what="the broken file is shown")
        assert "did you mean tls_server_config?" in daemon.log()
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: "settings reloaded" in daemon.log(), what="it begins anew")
        until(lambda: daemon.shown() == 0, what="it serves again, by the old rules")
        daemon.write(daemon.rules)
        until(lambda: daemon.shown() == 1, what="the mended file is taken")
        daemon.write("")
        until(lambda: daemon.shown() == 0, what="TLS does not end by itself")
    finally:
        daemon.stop()


def test_check_config_says_what_is_wrong_with_a_file_alone(daemon: SecureDaemon) -> None:
    checked = command("check-config", f"--web.config.file={daemon.web_config}")
    assert (checked.returncode, str(daemon.web_config) in checked.stderr) == (0, False)
    wrong = daemon.directory / "wrong.yml"
    wrong.write_text("tls_server_config: {cert_file: no.crt, key_file: no.key}")
    checked = command("check-config", f"--web.config.file={wrong}")
    assert checked.returncode == 1
    assert f"cert_file {wrong.parent}/no.crt: cannot be read: No such file" in checked.stderr
