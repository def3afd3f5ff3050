"""How a daemon begins, reloads and ends."""

import json
import signal
import subprocess

import pytest

from exporter import __version__
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
    assert "not clean" not in daemon.log()


def test_sighup_reads_the_settings_again_and_loses_nothing(daemon, tmp_path):
    before = until(lambda: daemon.devices()["package-0-dram"]["counted"]["energy_uj"])
    (tmp_path / "config.yaml").write_text("convert: {zone: FR}\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.json("/api/v1/intensity")["factor"]["zone"] == "FR")
    assert daemon.devices()["package-0-dram"]["counted"]["energy_uj"] >= before


def test_the_log_has_one_line_for_the_start_a_reload_and_the_end(daemon, tmp_path):
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: 'msg="settings reloaded"' in daemon.log())
    assert "msg=stopped" not in daemon.log()
    assert daemon.stop() == 0
    events = [line.partition(" msg=")[2] for line in daemon.log().splitlines()]
    assert events[0].startswith(f"starting version={__version__} ")
    assert f"config_file={tmp_path}/config.yaml" in events[0]
    (started,) = [event for event in events if event.startswith("started ")]
    assert daemon.url in started
    assert sum(event.startswith('"reloading settings"') for event in events) == 1
    assert sum(event.startswith('"settings reloaded"') for event in events) == 1
    assert events[-1] == "stopped"


def test_with_json_logs_every_line_of_both_streams_is_json(tmp_path):
    flags = ["--log.format=json", "--web.listen-address=127.0.0.1:0"]
    flags += [f"--socket.path={tmp_path}/agent.sock", f"--path.state={tmp_path}/state"]
    with subprocess.Popen(
        [*COMMAND, "serve", *flags],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as daemon:
        events = []
        for line in daemon.stdout:
            events.append(json.loads(line))
            if events[-1]["msg"] == "started":
                second = subprocess.run(
                    [*COMMAND, "serve", *flags], cwd=REPOSITORY, capture_output=True, check=False
                )
                daemon.send_signal(signal.SIGHUP)
            elif events[-1]["msg"] == "settings reloaded":
                daemon.terminate()
    assert events[0]["msg"] == "starting"
    assert events[-1]["msg"] == "stopped"
    assert any("http://" in event.get("urls", "") for event in events)
    *_, refused = [json.loads(line) for line in second.stderr.splitlines()]
    assert second.returncode == 1
    assert refused["level"] == "critical"
    assert str(daemon.pid) in refused["msg"]
    assert second.stdout == b""


def test_sighup_with_a_path_that_is_no_directory_keeps_the_old_settings(daemon, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "config.yaml").write_text(f"attribute: {{jobs_directory: {tmp_path}/file}}\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "jobs_directory" in daemon.log())
    until(lambda: get(daemon.url + "/-/ready"))
    assert "settings not reloaded" in daemon.log()


def test_sighup_with_broken_settings_keeps_the_old_ones(daemon, tmp_path):
    (tmp_path / "config.yaml").write_text("convert: {zonne: FR}\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "settings not reloaded" in daemon.log())
    assert "settings reloaded" not in daemon.log()
    until(lambda: get(daemon.url + "/-/ready"))
    assert daemon.json("/api/v1/intensity")["factor"]["zone"] == "DE"


@pytest.mark.parametrize(
    ("broken", "word"),
    [("convert: {zonne: FR}\n", "zonne"), ("convert: {zone: Atlantis}\n", "Atlantis")],
)
def test_a_failed_reload_is_a_metric_and_on_the_page_until_one_works(
    daemon, tmp_path, broken, word
):
    def metrics():
        return get(daemon.url + "/metrics").decode().splitlines()

    settings = (tmp_path / "config.yaml").read_text()
    success = "emissions_config_last_reload_successful"
    assert f"{success} 1.0" in metrics()
    (tmp_path / "config.yaml").write_text(broken)
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "settings not reloaded" in daemon.log())
    until(lambda: f"{success} 0.0" in metrics())
    assert 'emissions_collector_success{collector="config"} 0.0' in metrics()
    assert word in get(daemon.url + "/").decode()
    (tmp_path / "config.yaml").write_text(settings)
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: f"{success} 1.0" in metrics())
    assert not any('collector="config"' in line for line in metrics())


def test_sighup_with_settings_that_cannot_work_keeps_the_old_ones(daemon, tmp_path):
    (tmp_path / "config.yaml").write_text("convert: {zone: Atlantis}\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "Atlantis" in daemon.log())
    until(lambda: get(daemon.url + "/-/ready"))
    assert daemon.json("/api/v1/intensity")["factor"]["zone"] == "DE"


def test_it_says_where_the_page_is_and_how_to_try_a_run(tmp_path):
    command = [*COMMAND, "serve", "--web.listen-address=127.0.0.1:0", f"--path.state={tmp_path}"]
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


def test_a_replay_suggests_no_run_that_it_would_refuse(tmp_path):
    command = [*COMMAND, "replay", "--web.listen-address=127.0.0.1:0"]
    socket = f"--socket.path={tmp_path}/agent.sock"
    with subprocess.Popen(
        [*command, socket], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as daemon:
        try:
            page, suggestion = daemon.stdout.readline(), daemon.stdout.readline()
        finally:
            daemon.terminate()
    assert page.startswith(b"live page:  http://")
    assert b" run " not in suggestion
    assert b"part of the recording" in suggestion


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
