"""What people and machines get wrong: the daemon says what to do, and goes on counting."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.real import parts
from tests.real.parts import COMMAND, REPOSITORY, Daemon, environment, get, until
from tests.real.test_unprivileged import as_nobody, home  # noqa: F401  a fixture

FILES = 64
CLIENTS = 100
PROCESSES = 200
RUNS_SHOWN, RUNS = 18, 120
LONG_ID = "x" * 10_000
HOSTILE_IDS = {
    "quotes": "q\"uo'te\\",
    "newlines": "two\nlines\r",
    "markup": "<script>alert(1)</script>",
    "braces": 'a"} 1\nemissions_forged 2',
}


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    directory = tmp_path / "sys"
    directory.mkdir()
    return directory


@pytest.fixture
def daemon(request: pytest.FixtureRequest, tmp_path: Path, empty: Path) -> Iterator[Daemon]:
    """One that sees no run of this machine, unless it is asked to read environments."""
    reads = getattr(request, "param", "false")
    daemon = Daemon(tmp_path / "daemon", f"--path.sysfs={empty}", f"--config.file={tmp_path}/c")
    settings = f"{{max_runs: 20, read_environments: {reads}}}"  # 18 of one user
    (tmp_path / "c").write_text(f"attribute: {settings}\n")
    yield daemon.start()
    daemon.stop()


reading = pytest.mark.parametrize("daemon", ["true"], indirect=True, ids=["reads_environments"])


def refusal(*flags: str, **variables: str) -> str:
    """What a daemon that refuses to start says; it must be one line, not a traceback."""
    ended = subprocess.run(
        [*COMMAND, "serve", "--web.listen-address=127.0.0.1:0", *flags],
        cwd=REPOSITORY,
        env=environment(**variables),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode in (1, os.EX_CONFIG)
    said = ended.stderr.decode()
    assert "Traceback" not in said
    return said.splitlines()[-1]


def counted_uj(daemon: Daemon) -> int:
    return int(daemon.devices()["package-0-dram"]["counted"]["energy_uj"])


def ask(daemon: Daemon, body: bytes) -> tuple[int, Any]:
    """Status and document of the answer to a registration."""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(10)
        agent.connect(daemon.socket)
        head = (
            b"POST /v1/runs HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        )
        agent.sendall(head % len(body) + body)
        received = b""
        while chunk := agent.recv(65536):
            received += chunk
    head, _, answer = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(answer)


def ids(daemon: Daemon) -> set[str]:
    return {run["run_id"] for run in daemon.json("/api/v1/snapshot")["runs"]}


def dropped(daemon: Daemon) -> int:
    return int(daemon.json("/api/v1/snapshot")["health"]["series_dropped"])


@contextmanager
def sleeping(run_ids: list[str]) -> Iterator[None]:
    """A process for each run id, that has it in its environment."""
    processes = [
        subprocess.Popen(["sleep", "60"], env=environment(EMISSIONS_RUN_ID=run_id))
        for run_id in run_ids
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ("sample: {intervall_seconds: 2}", "did you mean sample.interval_seconds?"),
        ("sampel: {}", "did you mean sample?"),
        ("attribute: {max_runs: many}", "expected a whole number of runs"),
        ("attribute: {read_environments: maybe}", "expected true or false"),
        ("convert: {zone: NO}", "put it in quotes"),
        ("sample: {interval_seconds: 1s}", "number of seconds without a unit"),
        ("sample: {interval_seconds: 0}", "below the minimum, 0.1"),
        ("sample: [1", "is not valid YAML"),
    ],
)
def test_wrong_settings_are_refused_with_what_would_be_right(
    tmp_path: Path, settings: str, remedy: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(settings)
    said = refusal(f"--config.file={config}", f"--path.state={tmp_path}/state")
    assert str(config) in said
    assert remedy in said
    assert not (tmp_path / "state").exists()


def test_a_unit_in_a_variable_is_refused_with_its_name() -> None:
    said = refusal(EMISSIONS_EXPORTER_ACCOUNT_COMMIT_SECONDS="30s")
    assert "EMISSIONS_EXPORTER_ACCOUNT_COMMIT_SECONDS: expected a number of seconds" in said


def test_a_file_in_the_way_of_the_state_directory_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("precious")
    said = refusal(f"--path.state={file}")
    assert f"{file} is a file, and a directory is required" in said
    assert "account.state_directory (--path.state)" in said
    assert file.read_text() == "precious"


def test_a_state_directory_without_rights_is_refused_with_the_remedy(home: Path) -> None:  # noqa: F811
    daemon = as_nobody(
        [*COMMAND, "serve", "--web.listen-address=127.0.0.1:0", f"--path.state={home}/../state"],
        home,
    )
    _, error = daemon.communicate(timeout=20)
    said = error.decode().splitlines()[-1]
    assert daemon.returncode == 1
    assert f"state directory {home}/../state cannot be created: Permission denied; " in said
    assert f"`install -d -m 0700 -o nobody {home}/../state`" in said


def test_a_socket_path_that_is_too_long_is_refused_with_its_bound(tmp_path: Path) -> None:
    said = refusal(f"--path.state={tmp_path}/state", f"--socket.path={tmp_path}/{'x' * 120}")
    assert "the limit of the kernel is 107; choose a shorter path" in said


def test_a_fixture_that_is_not_there_is_refused_with_the_argument() -> None:
    ended = subprocess.run(
        [*COMMAND, "replay", "/nope"], cwd=REPOSITORY, capture_output=True, timeout=20, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        b"emissions-exporter: replay /nope: no such file or bundled host"
    )


def test_without_a_readable_sys_it_counts_what_it_can_and_says_so(
    home: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    sysfs = tmp_path / "sys"
    sysfs.mkdir(mode=0o000)
    run_once = as_nobody([*COMMAND, "once", f"--path.sysfs={sysfs}"], home)
    _, error = run_once.communicate(timeout=20)
    assert run_once.returncode == 0
    assert "energy is estimated" in error.decode()


def test_without_proc_it_goes_on_and_says_which_path_it_misses(tmp_path: Path, empty: Path) -> None:
    daemon = Daemon(tmp_path / "d", f"--path.sysfs={empty}", "--path.procfs=/nonsense").start()
    try:
        assert until(lambda: "/nonsense: No such file" in daemon.log())
        assert get(daemon.url + "/-/healthy") == b"healthy\n"
    finally:
        daemon.stop()


@pytest.mark.parametrize("run_id", HOSTILE_IDS.values(), ids=HOSTILE_IDS)
def test_a_hostile_run_id_is_a_run_like_any_other(daemon: Daemon, run_id: str) -> None:
    before_uj = counted_uj(daemon)
    run = daemon.run(f"--run-id={run_id}", "--", "true")
    _, said = run.communicate(timeout=30)
    assert run.returncode == 0
    assert said.startswith(b"Run ")
    page = get(daemon.url + "/metrics").decode()
    assert page.count("emissions_run_info{") == 1
    assert "\nemissions_forged" not in page
    assert counted_uj(daemon) >= before_uj


def test_a_run_id_of_10_kb_is_refused_with_the_bound_and_the_command_runs(daemon: Daemon) -> None:
    run = daemon.run(f"--run-id={LONG_ID}", "--", "true")
    _, said = run.communicate(timeout=30)
    assert run.returncode == 0
    assert b"not measured: run_id: has 10000 bytes, the limit is 1024; shorten it" in said


@reading
def test_a_run_id_of_10_kb_in_an_environment_is_cut_to_one_that_is_told_apart(
    daemon: Daemon,
) -> None:
    with sleeping([LONG_ID, LONG_ID + "y"]):
        runs = until(lambda: len(shown := {x for x in ids(daemon) if "xxx" in x}) == 2 and shown)
    assert all(len(run_id.encode()) <= 128 for run_id in runs)


def test_a_run_id_that_is_no_utf8_is_refused_and_the_command_runs(daemon: Daemon) -> None:
    run = daemon.run("--run-id=\udcff\udcfe", "--", "true")
    _, said = run.communicate(timeout=30)
    assert run.returncode == 0
    assert b"not measured: run_id: is not valid Unicode; write it in UTF-8" in said


def test_asking_for_a_run_id_that_is_no_utf8_is_refused(daemon: Daemon) -> None:
    ended = subprocess.run(
        [*COMMAND, "report", f"--socket.path={daemon.socket}", "\udcff"],
        cwd=REPOSITORY,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == b"emissions-exporter: the path is not valid UTF-8\n"


@pytest.mark.parametrize(
    "body",
    [b'{"run_id": "\xff"}', b'{"run_id": "\\ud800"}', b'{"run_id": 7}', b"[", b"", b"[" * 60_000],
)
def test_a_body_that_is_no_registration_is_refused_and_nothing_else_happens(
    daemon: Daemon, body: bytes
) -> None:
    before_uj = counted_uj(daemon)
    status, document = ask(daemon, body)
    assert status == 400
    assert document["error"]
    assert ids(daemon) == set()
    assert counted_uj(daemon) >= before_uj
    assert "Traceback" not in daemon.log()


@reading
def test_runs_beyond_the_cap_are_counted_together(daemon: Daemon) -> None:
    with sleeping([f"run-{number}" for number in range(RUNS)]):
        until(lambda: dropped(daemon) >= RUNS - RUNS_SHOWN, what="every run was seen")
        shown = ids(daemon)
    assert "other" in shown
    assert len(shown) == RUNS_SHOWN + 1

    def described() -> int:
        return get(daemon.url + "/metrics").decode().count("emissions_run_info{")

    until(lambda: described() == RUNS_SHOWN + 1, what="the user of every run is known")


def test_short_of_file_handles_it_counts_every_process_and_says_so(
    tmp_path: Path, empty: Path
) -> None:
    daemon = Daemon(tmp_path / "daemon", f"--path.sysfs={empty}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "COMMAND", ["prlimit", f"--nofile={FILES}:{FILES}", *COMMAND])
        daemon.start()
    try:
        loop = f"for i in $(seq {PROCESSES}); do sleep 3 & done; wait"
        run = daemon.run("--run-id=many", "--", "bash", "-c", loop)
        clients = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(CLIENTS)]
        before_uj = counted_uj(daemon)
        until(lambda: counted_uj(daemon) > before_uj, what="it goes on counting")
        _, said = run.communicate(timeout=30)
        for client in clients:
            client.close()
        assert said.startswith(b"Run many")
        assert daemon.json("/api/v1/runs/many")["energy_uj"] > 0
        assert f"open_files={FILES}" in daemon.log()
        assert "LimitNOFILE" in daemon.log()
        assert len(daemon.log()) < 10_000
        assert daemon.json("/api/v1/snapshot")["health"]["loop_overruns"] == 0
    finally:
        daemon.stop()
