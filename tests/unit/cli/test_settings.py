"""Flags, and the commands that need no daemon."""

import argparse
import json
import os
import socket
import subprocess
import sys

import pytest
import yaml

from exporter.cli import main as command
from exporter.cli import serve
from exporter.cli.settings import add_flags, settings
from exporter.config import COLLECTORS
from exporter.sample.registry import NAMES


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(arguments)


def test_flags_with_dots_reach_their_settings():
    config = settings(parsed("--sample.interval=2", "--web.listen-address=:9", "--path.procfs=/p"))
    assert config.sample.interval_seconds == 2
    assert config.expose.listen_address == ":9"
    assert config.sample.procfs == "/p"


def test_collectors_are_switched_by_name():
    config = settings(parsed("--no-collector.rapl", "--collector.cpu_estimate"))
    assert config.sample.collectors == {"rapl": False, "cpu_estimate": True}


def test_settings_know_the_collectors_that_there_are():
    assert COLLECTORS == NAMES


def test_check_config_prints_what_could_be_its_file(capsys, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("convert: {zone: DE, pue: 1.3}\n")
    assert command.main(["check-config", f"--config.file={file}"]) == 0
    document = yaml.safe_load(capsys.readouterr().out)
    assert document["convert"]["zone"] == "DE"
    file.write_text(yaml.safe_dump(document))
    assert command.main(["check-config", f"--config.file={file}"]) == 0


def test_check_config_prints_no_password_of_an_address(capsys, tmp_path):
    file = tmp_path / "config.yaml"
    source = {"prometheus": {"url": "http://ada:hunter2@prom:9090", "query": "x"}}
    file.write_text(yaml.safe_dump({"convert": {"sources": [source]}}))
    assert command.main(["check-config", f"--config.file={file}"]) == 0
    printed = capsys.readouterr()
    assert "http://prom:9090" in printed.out
    assert "hunter2" not in printed.out + printed.err


def test_a_wrong_setting_is_one_line_that_says_where(capsys, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("convert: {zonne: DE}\n")
    assert command.main(["check-config", f"--config.file={file}"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "convert.zonne" in error
    assert "convert.zone?" in error


def test_an_unknown_zone_is_found_before_the_daemon_starts(capsys):
    assert command.main(["check-config", "--config.file=/nonexistent"]) == 1
    assert "--config.file" in capsys.readouterr().err


def test_without_a_daemon_a_run_still_runs_and_says_how_to_measure_it(capfd, tmp_path):
    socket = f"--socket.path={tmp_path}/no.sock"
    code = command.main(["run", socket, "--", sys.executable, "-c", "raise SystemExit(7)"])
    assert code == 7
    assert "emissions-exporter serve" in capfd.readouterr().err


def test_a_command_that_is_not_there_has_the_shells_exit_code(capfd, tmp_path):
    assert (
        command.main(["run", f"--socket.path={tmp_path}/no.sock", "--", "no-such-command"]) == 127
    )


def test_the_exit_code_of_a_killed_command_is_that_of_a_shell(tmp_path):
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    socket = f"--socket.path={tmp_path}/no.sock"
    assert command.main(["run", socket, "--", sys.executable, "-c", kill]) == 137


def test_an_address_that_cannot_be_one_is_refused_before_anything_starts(capsys):
    assert command.main(["check-config", "--web.listen-address=here"]) == 1
    assert "--web.listen-address=here: expected host:port" in capsys.readouterr().err


def test_a_host_that_is_not_shipped_is_refused_with_those_that_are(capsys):
    assert command.main(["replay", "laptop"]) == 1
    assert "one of cluster-node, eight-gpu, mig-node, two-socket" in capsys.readouterr().err


def test_runs_without_a_daemon_says_how_to_start_one(capsys, tmp_path):
    assert command.main(["runs", f"--socket.path={tmp_path}/no.sock"]) == 1
    assert "emissions-exporter serve" in capsys.readouterr().err


def test_healthcheck_of_nothing_fails_with_the_address(capsys, tmp_path):
    socket = f"--socket.path={tmp_path}/no.sock"
    assert command.main(["healthcheck", socket, "--web.listen-address=127.0.0.1:1"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_once_prints_a_page_and_keeps_nothing(capfdbinary, tmp_path):
    code = command.main(
        ["once", "--sample.interval=0.1", f"--path.sysfs={tmp_path}", f"--path.state={tmp_path}"]
    )
    assert code == 0
    assert b"emissions_device_power_watts" in capfdbinary.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_log_lines_are_one_line_each_and_parse(form, capsys):
    import logging

    from exporter.cli.logs import set_up

    root = logging.getLogger()
    before = root.handlers[:]
    try:
        set_up("info", form)
        logging.getLogger("exporter.loop").info("run began", extra={"run_id": 'a "b"\nc'})
        (line,) = capsys.readouterr().err.splitlines()
    finally:
        root.handlers[:] = before
    assert "component" in line
    if form == "json":
        assert json.loads(line)["run_id"] == 'a "b"\nc'


def test_check_config_refuses_a_path_of_the_metrics_that_is_taken(capsys):
    assert command.main(["check-config", "--web.telemetry-path=/runs"]) == 1
    said = capsys.readouterr().err
    assert "--web.telemetry-path=/runs: something else is served there" in said


def test_check_config_takes_the_file_as_its_argument(capsys, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("convert: {zone: FR}\n")
    assert command.main(["check-config", str(file)]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["convert"]["zone"] == "FR"


def test_check_config_names_the_wrong_place_in_the_file_of_its_argument(capsys, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("convert: {zonne: FR}\n")
    assert command.main(["check-config", str(file)]) == 1
    assert f"{file}: convert.zonne: there is no such key" in capsys.readouterr().err


def test_check_config_refuses_two_different_files(capsys, tmp_path):
    assert command.main(["check-config", "a.yaml", "--config.file=b.yaml"]) == 1
    assert "two files are given, a.yaml and --config.file=b.yaml" in capsys.readouterr().err


def test_once_logs_nothing_below_the_level_that_is_set(capfdbinary, tmp_path):
    flags = ["--sample.interval=0.1", f"--path.sysfs={tmp_path}", f"--path.state={tmp_path}"]
    assert command.main(["once", "--log.level=error", *flags]) == 0
    assert capfdbinary.readouterr().err == b""
    assert command.main(["once", "--log.level=warning", *flags]) == 0
    assert b"level=warning" in capfdbinary.readouterr().err


def test_a_missing_zone_is_told_with_its_flag_and_the_line_for_the_file(capsys, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("{}\n")
    assert command.main(["check-config", str(file)]) == 0
    error = capsys.readouterr().err
    assert f"by --convert.zone=DE, or write `convert: {{zone: DE}}` in {file}" in error
    assert command.main(["check-config", "--convert.zone=FR"]) == 0
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["convert"]["zone"] == "FR"
    assert "no zone" not in printed.err


def test_check_config_names_settings_of_the_file_that_are_overridden(capsys, tmp_path, monkeypatch):
    file = tmp_path / "config.yaml"
    file.write_text("convert: {zone: DE}\n")
    monkeypatch.setenv("EMISSIONS_EXPORTER_CONVERT_ZONE", "FR")
    assert command.main(["check-config", str(file)]) == 0
    assert (
        "warning: convert.zone of the file is overridden by EMISSIONS_EXPORTER_CONVERT_ZONE"
        in capsys.readouterr().err
    )


def test_the_daemon_logs_settings_of_the_file_that_are_overridden(tmp_path, monkeypatch, caplog):
    file = tmp_path / "config.yaml"
    file.write_text("expose: {node: mine}\n")
    overridden = []
    settings(parsed(f"--config.file={file}"), overridden)
    assert overridden == []
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_NODE", "other")
    settings(parsed(f"--config.file={file}"), overridden)
    serve.log_overridden(overridden)
    (record,) = caplog.records
    assert (record.levelname, record.setting, record.by) == (
        "WARNING",
        "expose.node",
        "EMISSIONS_EXPORTER_EXPOSE_NODE",
    )


@pytest.mark.parametrize(
    "flags",
    [
        ["--config.file=/nowhere/c.yaml"],
        ["--sample.interval=-1"],
        ["--convert.zone=Deutschland"],
        ["--path.procfs={tmp_path}/file"],
        ["--web.config.file=/nowhere/web.yml"],
    ],
)
@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_an_error_in_the_settings_of_the_daemon_has_its_own_exit_code(
    tmp_path, flags, form, capsys
):
    (tmp_path / "file").touch()
    given = [flag.format(tmp_path=tmp_path) for flag in flags]
    places = [f"--path.state={tmp_path}/state", f"--socket.path={tmp_path}/s"]
    assert command.main(["serve", f"--log.format={form}", *places, *given]) == os.EX_CONFIG == 78
    assert command.main(["check-config", *places, *given]) == 1


def test_a_port_that_is_in_use_is_no_error_in_the_settings(tmp_path):
    """Another program may free it, so a supervisor is to try again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "exporter", "serve"),
                f"--web.listen-address={address}",
                f"--path.state={tmp_path}/state",
                f"--socket.path={tmp_path}/s",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert "another program listens there" in ended.stderr


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--convert.zone=DE"], "# intensity: yearly value of DE: 344.1 g/kWh (lifecycle), "),
        ([], "# intensity: world average: 473 g/kWh (lifecycle), "),
    ],
)
def test_check_config_names_the_intensity_that_follows(capsys, flags, line):
    assert command.main(["check-config", *flags]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].startswith(line)
    assert yaml.safe_load(printed)["sample"]["interval_seconds"] == 1


def test_the_help_of_healthcheck_has_what_it_uses_and_other_flags_are_accepted(capsys, tmp_path):
    with pytest.raises(SystemExit):
        command.main(["healthcheck", "--help"])
    shown = capsys.readouterr().out
    assert "--socket.path" in shown
    assert "--web.listen-address" in shown
    for other in ("--sample.interval", "--collector.rapl", "--convert.zone"):
        assert other not in shown
    flags = [f"--socket.path={tmp_path}/s", "--web.listen-address=none", "--sample.interval=2"]
    assert command.main(["healthcheck", *flags, "--no-collector.rapl"]) == 1


def test_the_default_of_since_is_shown_as_it_is_written(capsys):
    for name in ("report", "rules"):
        with pytest.raises(SystemExit):
            command.main([name, "--help"])
        shown = capsys.readouterr().out
        assert "(default: 30d)" in " ".join(shown.split())
        assert "2592000" not in shown
