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
from exporter.cli.config_flags import add_config_flags, config_from_options
from tests.certificates import Authority


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    return parser.parse_args(arguments)


def test_flags_with_dots_reach_their_settings():
    config = config_from_options(
        parsed("--sample.interval=2", "--web.listen-address=:9", "--path.procfs=/p")
    )
    assert config.sample.interval_seconds == 2
    assert config.expose.listen_address == ":9"
    assert config.sample.procfs == "/p"


def test_collectors_are_switched_by_name():
    config = config_from_options(parsed("--no-collector.rapl", "--collector.cpu_estimate"))
    assert config.sample.collectors == {"rapl": False, "cpu_estimate": True}


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
    assert (
        "one of amd-intel, cluster-node, eight-gpu, mig-node, two-socket" in capsys.readouterr().err
    )


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

    from exporter.cli.logging_setup import configure_logging

    root = logging.getLogger()
    before = root.handlers[:]
    try:
        configure_logging("info", form)
        logging.getLogger("exporter.loop").info("run started", extra={"run_id": 'a "b"\nc'})
        (line,) = capsys.readouterr().err.splitlines()
    finally:
        root.handlers[:] = before
    assert "component" in line
    if form == "json":
        assert json.loads(line)["run_id"] == 'a "b"\nc'


def test_check_config_refuses_a_path_of_the_metrics_that_is_taken(capsys):
    assert command.main(["check-config", "--web.telemetry-path=/runs"]) == 1
    said = capsys.readouterr().err
    assert "--web.telemetry-path=/runs: this path is reserved" in said


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
    assert "FILE a.yaml and --config.file=b.yaml differ" in capsys.readouterr().err


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
    assert (
        "set convert.zone by --convert.zone=DE, or by EMISSIONS_EXPORTER_CONVERT_ZONE=DE" in error
    )
    assert f"or by `zone: DE` under `convert:` in {file}\n" in error
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
        "warning: convert.zone in the file is overridden by EMISSIONS_EXPORTER_CONVERT_ZONE"
        in capsys.readouterr().err
    )


def test_the_daemon_logs_settings_of_the_file_that_are_overridden(tmp_path, monkeypatch, caplog):
    file = tmp_path / "config.yaml"
    file.write_text("expose: {node: mine}\n")
    overridden = []
    config_from_options(parsed(f"--config.file={file}"), overridden)
    assert overridden == []
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_NODE", "other")
    config_from_options(parsed(f"--config.file={file}"), overridden)
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
    assert "address in use by another program" in ended.stderr


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


KG = "0.473 g/kWh is less than any grid emits, it looks like kg/kWh; write 473"
NO_ZONE = "no bundled table has 'Germany'; did you mean DE?"


@pytest.fixture
def checked(capsys, tmp_path, monkeypatch):
    """The error of `check-config` for a document in config.yaml, flags and variables."""

    def call(document, *flags, **variables):
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(document))
        for name, value in variables.items():
            monkeypatch.setenv(f"EMISSIONS_EXPORTER_{name}", value)
        assert command.main(["check-config", str(file), *flags]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line.replace(str(file), "FILE").removeprefix("emissions-exporter: ")

    return call


@pytest.mark.parametrize(
    ("document", "flags", "variables", "said"),
    [
        ({"convert": {"grams_per_kwh": 0.473}}, [], {}, f"FILE: convert.grams_per_kwh: {KG}"),
        (
            {"convert": {"grams_per_kwh": 473}},
            [],
            {"CONVERT_GRAMS_PER_KWH": "0.473"},
            f"EMISSIONS_EXPORTER_CONVERT_GRAMS_PER_KWH: {KG}",
        ),
        (
            {"convert": {"sources": [{"static": {"grams_per_kwh": 0.473}}]}},
            [],
            {},
            f"FILE: convert.sources: static.grams_per_kwh: {KG}",
        ),
        (
            {"convert": {"zone": "FR", "second": [{"static": {"grams_per_kwh": 0.473}}]}},
            [],
            {},
            f"FILE: convert.second: static.grams_per_kwh: {KG}",
        ),
        ({"convert": {"zone": "Germany"}}, [], {}, f"FILE: convert.zone: {NO_ZONE}"),
        (
            {"convert": {"zone": "DE"}},
            [],
            {"CONVERT_ZONE": "Germany"},
            f"EMISSIONS_EXPORTER_CONVERT_ZONE: {NO_ZONE}",
        ),
        (
            {"convert": {"zone": "DE"}},
            ["--convert.zone=Germany"],
            {"CONVERT_ZONE": "FR"},
            f"--convert.zone: {NO_ZONE}",
        ),
        (
            {"expose": {"listen_address": "here"}},
            [],
            {},
            "FILE: expose.listen_address=here: expected host:port",
        ),
        (
            {"attribute": {"jobs_directory": "/etc/passwd"}},
            [],
            {},
            "FILE: attribute.jobs_directory: /etc/passwd is a file",
        ),
    ],
)
def test_an_error_begins_with_the_place_where_the_setting_was_given(
    checked, document, flags, variables, said
):
    assert checked(document, *flags, **variables).startswith(said)


def test_labels_that_would_become_one_are_an_error(checked):
    said = checked({"attribute": {"exported_labels": ["te-am", "te_am"]}})
    assert "'te-am' and 'te_am' would both become label_te_am; leave one out" in said


def test_an_error_about_a_default_names_no_file(checked, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "exporter.config_loader.default_state_directory", lambda: str(tmp_path / "f")
    )
    (tmp_path / "f").touch()
    assert checked({"convert": {"zone": "DE"}}).startswith("account.state_directory (--path.state)")


def make(path, kind):
    """Something at a path that is no file with a token or with intensities in it."""
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "empty" | "blank":
            path.write_text(" \n" if kind == "blank" else "")
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case "dangling":
            path.symlink_to("nowhere")
    return str(path)


PLACES = [
    ({"file": {"path": "PATH"}}, "convert.sources: file: PATH:"),
    (
        {"electricity_maps": {"token_file": "PATH"}},
        "convert.sources: electricity_maps: token file PATH",
    ),
    (
        {"watttime": {"token_file": "PATH", "region": "R", "username": "u", "signal": "average"}},
        "convert.sources: watttime: token file PATH",
    ),
    (
        {"prometheus": {"token_file": "PATH", "url": "http://p:9090", "query": "x"}},
        "convert.sources: prometheus: token file PATH",
    ),
]
KINDS = {
    "directory": "is a directory, and a regular file is required",
    "pipe": "is a pipe, and a regular file is required",
    "socket": "is a socket, and a regular file is required",
    "missing": "cannot be read: No such file or directory; check that it exists",
    "dangling": "cannot be read: No such file or directory; check that it exists",
    "empty": "is empty; ",
    "blank": "is empty; ",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("source", "where"), PLACES)
def test_a_path_inside_the_sources_has_to_be_a_file_with_something_in_it(
    checked, tmp_path, source, where, kind
):
    path = make(tmp_path / "p", kind)
    ((name, options),) = source.items()
    given = {name: {k: path if v == "PATH" else v for k, v in options.items()}}
    said = checked({"convert": {"zone": "DE", "sources": [given, "table"]}})
    assert said.startswith(f"FILE: {where.replace('PATH', path)} {KINDS[kind]}")


@pytest.mark.parametrize(("source", "where"), PLACES[:2])
def test_serve_refuses_the_same_paths_with_the_same_words(
    source, where, capsys, tmp_path, monkeypatch
):
    file, path = tmp_path / "config.yaml", str(tmp_path)
    ((name, options),) = source.items()
    given = {name: dict.fromkeys(options, path)}
    file.write_text(yaml.safe_dump({"convert": {"zone": "DE", "sources": [given, "table"]}}))
    monkeypatch.setenv("EMISSIONS_EXPORTER_ACCOUNT_STATE_DIRECTORY", str(tmp_path / "state"))
    flags = ["--web.listen-address=none", f"--socket.path={tmp_path}/s", f"--config.file={file}"]
    assert command.main(["serve", *flags]) == os.EX_CONFIG
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{file}: {where.replace('PATH', path)} is a directory, and a regular file" in said


def test_a_relative_path_is_said_with_the_directory_that_it_was_looked_for_in(
    checked, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    said = checked({}, CONVERT_FILE="grid.csv")
    assert said.endswith(
        f"grid.csv: cannot be read: No such file or directory; check that it exists in {tmp_path}"
    )


def test_a_relative_path_in_the_file_is_said_with_the_directory_of_the_file(checked, tmp_path):
    said = checked({"convert": {"sources": [{"file": {"path": "grid.csv"}}]}})
    assert said.endswith(
        f"{tmp_path}/grid.csv: cannot be read: No such file or directory; check that it exists"
    )


@pytest.mark.parametrize("path", ["a\0b", "x" * 5_000, "/etc/passwd/x"])
def test_a_path_that_cannot_be_one_is_an_error_of_one_line(checked, path):
    assert "cannot be read: " in checked({"convert": {"sources": [{"file": {"path": path}}]}})


@pytest.mark.parametrize(
    ("arguments", "file"),
    [(["check-config"], "the settings file (--config.file)"), (["check-config", "FILE"], "FILE")],
)
def test_a_missing_zone_is_reported_with_every_way_to_set_it(arguments, file, capsys, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("convert: {pue: 1.2}\n")
    assert command.main([each.replace("FILE", str(path)) for each in arguments]) == 0
    assert capsys.readouterr().err.endswith(
        "no zone is configured; set convert.zone by --convert.zone=DE, or by "
        "EMISSIONS_EXPORTER_CONVERT_ZONE=DE in the exporter's environment, or by `zone: DE` under "
        f"`convert:` in {file.replace('FILE', str(path))}\n"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read: No such file or directory"), ("", "is not valid JSON"), ("{}", "")],
)
def test_a_recording_that_cannot_be_played_is_an_error_before_the_start(
    checked, tmp_path, content, said
):
    path = tmp_path / "host.json"
    if content is not None:
        path.write_text(content)
    found = checked({"convert": {"zone": "DE"}, "sample": {"replay": str(path)}})
    assert found.startswith(f"FILE: sample.replay: {path}: {said}")


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """The files of a good certificate."""
    pair = Authority(tmp_path_factory.mktemp("authority")).sign("server", "DNS:localhost")
    return dict(zip(("cert_file", "key_file"), pair, strict=True))


@pytest.mark.parametrize("kind", ["directory", "pipe", "missing", "empty"])
@pytest.mark.parametrize("item", ["cert_file", "key_file"])
def test_an_error_about_a_certificate_names_the_file_that_names_it(
    item, kind, capsys, tmp_path, signed
):
    web, path = tmp_path / "web.yml", make(tmp_path / "p", kind)
    web.write_text(yaml.safe_dump({"tls_server_config": {**signed, item: path}}))
    flags = ["--convert.zone=DE", f"--web.config.file={web}"]
    assert command.main(["check-config", *flags]) == 1
    said = capsys.readouterr().err
    words = {
        "directory": "is a directory; specify a regular file",
        "pipe": "is not a regular file; specify a regular file",
        "missing": "cannot be read: No such file",
        "empty": "has no ",
    }
    assert f"{web}: {item} {path}: {words[kind]}" in said
