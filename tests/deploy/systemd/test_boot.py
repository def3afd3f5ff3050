"""The unit on a running systemd, installed as docs/install.md says."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.parts import LONG_SECONDS, REPOSITORY, free_port, get, until
from tests.real.systemd import SYSTEMD, UNITS, SystemdNamespaces

pytestmark = [pytest.mark.real, pytest.mark.beside]
PREFIX = "/opt/emissions-exporter"
NAME = "emissions-exporter"
UNIT = f"{NAME}.service"
LISTEN = "EMISSIONS_EXPORTER_EXPOSE_LISTEN_ADDRESS"
SOURCES = REPOSITORY / "deploy" / "systemd"
PYTHON = f"/usr/bin/python3.{sys.version_info.minor}"


class Machine(SystemdNamespaces):
    """A machine with the unit; its page is at a port of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "booted")
        self.port = free_port()

    def prepare(self) -> None:
        """Install as in docs/install.md, with the pip of the tests; then nothing can be changed."""
        self.inside(PYTHON, "-m", "venv", "--without-pip", PREFIX)
        pip = (sys.executable, "-m", "pip", "--python", f"{PREFIX}/bin/python", "--quiet")
        self.inside(*pip, "install", str(REPOSITORY))
        for kind in ("sysusers", "tmpfiles"):
            source, target = SOURCES / f"{NAME}.{kind}.conf", f"/etc/{kind}.d/{NAME}.conf"
            self.inside("install", "-D", "-m", "0644", str(source), target)
        self.inside("systemd-sysusers", f"/etc/sysusers.d/{NAME}.conf")
        self.add_unit(UNIT, (SOURCES / UNIT).read_text())
        self.drop_in("port", f"Environment={LISTEN}=127.0.0.1:{self.port}")
        self.inside("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp")
        self.inside("mount", "--bind", "/proc/sys", "/proc/sys")
        for path in ("/", "/sys", "/proc/sys"):
            self.inside("mount", "-o", "remount,bind,ro", path)

    def drop_in(self, name: str, *lines: str) -> None:
        self.add_unit(f"{UNIT}.d/{name}.conf", "\n".join(("[Service]", *lines, "")))

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        return self.inside("systemctl", *arguments, check=check)

    def show(self, name: str) -> str:
        return self.systemctl("show", "--value", f"--property={name}", NAME).strip()

    def fetch(self, path: str) -> str:
        return get(f"http://127.0.0.1:{self.port}{path}").decode()

    def energy_uj(self) -> int:
        """What the counters of all devices show."""
        devices = json.loads(self.fetch("/api/v1/snapshot"))["devices"]
        return sum(device["counted"]["energy_uj"] for device in devices)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    for reason, is_missing in (
        ("only root can start systemd", os.geteuid() != 0),
        ("systemd is missing", not SYSTEMD.exists()),
        (f"{PYTHON} is missing", not Path(PYTHON).exists()),
    ):
        if is_missing:
            pytest.skip(reason)
    made = Machine(tmp_path_factory.mktemp("machine"))
    try:
        try:
            made.open()
        except AssertionError as error:
            if "systemd runs" not in str(error):
                raise
            pytest.skip("this systemd does not start on the cgroups of this machine")
        yield made
    finally:
        made.close()


@pytest.fixture
def started(machine: Machine) -> Iterator[Machine]:
    machine.systemctl("start", NAME)
    yield machine
    machine.systemctl("stop", NAME)


def test_it_is_active_as_soon_as_its_page_answers(started: Machine) -> None:
    assert started.show("ActiveState") == "active"
    assert "emissions_device_energy_joules_total" in started.fetch("/metrics")
    assert f"127.0.0.1:{started.port}" in started.show("StatusText")


def test_it_runs_as_its_own_user_without_a_capability(started: Machine) -> None:
    pid = started.show("MainPID")
    rows = dict(
        line.split(":\t", 1)
        for line in started.inside("cat", f"/proc/{pid}/status").splitlines()
        if ":\t" in line
    )
    uid = started.inside("id", "-u", "emissions").strip()
    assert rows["Uid"].split() == [uid] * 4
    assert int(rows["CapEff"], 16) == int(rows["CapBnd"], 16) == 0
    assert rows["NoNewPrivs"] == "1"


def test_any_user_can_register_a_run(started: Machine) -> None:
    program = (f"{PREFIX}/bin/emissions-exporter", "run", "--run-id=booted", "--", "sleep", "2")
    started.inside("setpriv", "--reuid=64330", "--regid=64330", "--clear-groups", *program)
    runs = json.loads(started.fetch("/api/v1/runs"))["runs"]
    assert [run["run_id"] for run in runs] == ["booted"]


def test_counters_continue_over_a_kill_and_systemd_starts_it_again(started: Machine) -> None:
    before, restarts = started.energy_uj(), int(started.show("NRestarts"))
    started.systemctl("kill", "--signal=KILL", NAME)
    until(lambda: int(started.show("NRestarts")) > restarts, LONG_SECONDS)
    until(lambda: started.show("ActiveState") == "active", LONG_SECONDS)
    assert started.energy_uj() >= before > 0


def test_counters_continue_over_a_restart(started: Machine) -> None:
    before = started.energy_uj()
    started.systemctl("restart", NAME)
    assert started.energy_uj() >= before > 0


def test_a_reload_keeps_the_process(started: Machine) -> None:
    pid = started.show("MainPID")
    started.systemctl("reload", NAME)
    assert started.show("MainPID") == pid
    assert "\nemissions_config_last_reload_successful 1.0" in started.fetch("/metrics")


def test_after_an_error_in_the_settings_it_is_not_started_again(machine: Machine) -> None:
    machine.drop_in("wrong", "Environment=EMISSIONS_EXPORTER_CONVERT_PUE=0.5")
    machine.systemctl("daemon-reload")
    try:
        machine.systemctl("start", NAME, check=False)
        assert machine.show("ExecMainStatus") == "78"
        assert machine.show("ActiveState") == "failed"
    finally:
        machine.inside("rm", f"{UNITS}/{UNIT}.d/wrong.conf")
        machine.systemctl("daemon-reload")
        machine.systemctl("reset-failed", NAME)
