"""How a daemon begins, reloads and ends."""

import signal
import subprocess

import pytest

from tests.real.parts import COMMAND, REPOSITORY, Daemon, get, until


@pytest.fixture
def daemon(tmp_path):
    empty = tmp_path / "sys"
    empty.mkdir()
    config = tmp_path / "config.yaml"
    config.write_text("convert: {zone: DE}\n")
    daemon = Daemon(tmp_path / "daemon", f"--path.sysfs={empty}", f"--config.file={config}")
    yield daemon.start()
    daemon.stop()


def test_it_stops_in_good_order_and_goes_on_where_it_was(daemon):
    before = until(lambda: daemon.devices()["package-0-dram"]["counted"]["energy_uj"])
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.devices()["package-0-dram"]["counted"]["energy_uj"] >= before
    assert "not orderly" not in daemon.log()


def test_sighup_reads_the_settings_again_and_loses_nothing(daemon, tmp_path):
    before = until(lambda: daemon.devices()["package-0-dram"]["counted"]["energy_uj"])
    (tmp_path / "config.yaml").write_text("convert: {zone: FR}\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.json("/api/v1/intensity")["factor"]["zone"] == "FR")
    assert daemon.devices()["package-0-dram"]["counted"]["energy_uj"] >= before


def test_sighup_with_broken_settings_keeps_the_old_ones(daemon, tmp_path):
    (tmp_path / "config.yaml").write_text("convert: {zonne: FR}\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "settings not reloaded" in daemon.log())
    until(lambda: get(daemon.url + "/-/ready"))
    assert daemon.json("/api/v1/intensity")["factor"]["zone"] == "DE"


def test_sighup_with_settings_that_cannot_work_keeps_the_old_ones(daemon, tmp_path):
    (tmp_path / "config.yaml").write_text("convert: {zone: Atlantis}\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "Atlantis" in daemon.log())
    until(lambda: get(daemon.url + "/-/ready"))
    assert daemon.json("/api/v1/intensity")["factor"]["zone"] == "DE"


def test_it_says_where_the_page_is_and_how_to_try_a_run(tmp_path):
    command = [*COMMAND, "replay", "--web.listen-address=127.0.0.1:0"]
    socket = f"--socket.path={tmp_path}/agent.sock"
    with subprocess.Popen(
        [*command, socket], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as daemon:
        try:
            page, run = daemon.stdout.readline().decode(), daemon.stdout.readline().decode()
            assert b"emissions_" in until(lambda: get(page.split()[-1] + "metrics"))
            assert f"run {socket} --name demo -- " in run
        finally:
            daemon.terminate()


def test_a_second_daemon_on_one_ledger_is_refused_with_the_first_ones_pid(daemon, tmp_path):
    command = [
        *COMMAND,
        "serve",
        f"--path.state={daemon.directory / 'state'}",
        "--web.listen-address=127.0.0.1:0",
        f"--socket.path={tmp_path}/other.sock",
    ]
    second = subprocess.run(command, cwd=REPOSITORY, capture_output=True, timeout=20, check=False)
    assert second.returncode == 1
    assert str(daemon.process.pid) in second.stderr.decode()


def test_a_busy_port_is_refused_with_the_flag_to_change_it(daemon, tmp_path):
    command = [
        *COMMAND,
        "serve",
        f"--path.state={tmp_path / 'other'}",
        f"--web.listen-address=127.0.0.1:{daemon.port}",
        f"--socket.path={tmp_path}/other.sock",
    ]
    second = subprocess.run(command, cwd=REPOSITORY, capture_output=True, timeout=20, check=False)
    assert second.returncode == 1
    assert "--web.listen-address" in second.stderr.decode()


def test_a_daemon_that_does_not_become_ready_is_not_left_running(tmp_path, monkeypatch):
    def never(_):
        raise AssertionError("not ready")

    monkeypatch.setattr(Daemon, "is_ready", never)
    daemon = Daemon(tmp_path / "daemon", f"--path.sysfs={tmp_path}")
    with pytest.raises(AssertionError, match="not ready"):
        daemon.start()
    assert daemon.process is not None
    assert daemon.process.poll() is not None
