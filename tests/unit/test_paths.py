"""Check of the configured paths."""

import dataclasses
import os
import socket

import pytest
import yaml

from exporter.cli import main as command
from exporter.config_loader import check_paths, load_config
from exporter.errors import ConfigError

DIRECTORIES = ["sample.sysfs", "sample.procfs", "attribute.jobs_directory"]
DIRECTORIES.append("account.state_directory")
FILES = ["sample.replay", "convert.file", "expose.web_config_file"]
SOCKETS = ["expose.socket"]


def config(setting, path):
    section, _, name = setting.partition(".")
    settings = load_config(None, {}, {})
    changed = dataclasses.replace(getattr(settings, section), **{name: str(path)})
    return dataclasses.replace(settings, **{section: changed})


@pytest.mark.parametrize("setting", [*DIRECTORIES, *SOCKETS])
def test_a_file_in_the_place_of_a_directory_or_socket_is_an_error(setting, tmp_path):
    file = tmp_path / "file"
    file.touch()
    kind = "socket" if setting in SOCKETS else "directory"
    says = f"{setting}.*: {file} is a file, and a {kind} is required; choose another path"
    with pytest.raises(ConfigError, match=says):
        check_paths(config(setting, file))


@pytest.mark.parametrize("setting", [*FILES, *SOCKETS])
def test_a_directory_in_the_place_of_a_file_or_socket_is_an_error(setting, tmp_path):
    kind = "socket" if setting in SOCKETS else "file"
    with pytest.raises(ConfigError, match=f"is a directory, and a {kind} is required"):
        check_paths(config(setting, tmp_path))


@pytest.mark.parametrize("setting", [*DIRECTORIES, *FILES, *SOCKETS])
def test_a_file_above_the_path_is_an_error_that_names_it(setting, tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=f"{file} is a file, and a directory is required there"):
        check_paths(config(setting, file / "deeper" / "still"))


@pytest.mark.parametrize("setting", [*DIRECTORIES, *FILES, *SOCKETS])
def test_a_path_that_does_not_exist_is_accepted(setting, tmp_path):
    check_paths(config(setting, tmp_path / "later" / "on"))


def test_links_and_pipes_are_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    check_paths(config("account.state_directory", tmp_path / "link"))
    os.mkfifo(tmp_path / "pipe")
    check_paths(config("convert.file", tmp_path / "pipe"))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))
        check_paths(config("expose.socket", tmp_path / "s"))


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["check-config"], "--path.state"),
        (["serve", "--web.listen-address=127.0.0.1:0"], "--path.state"),
        (["check-config"], "--path.sysfs"),
        (["check-config"], "--path.procfs"),
        (["check-config"], "--socket.path"),
        (["once"], "--path.procfs"),
    ],
)
def test_a_command_names_the_flag_of_a_path_that_is_a_file(arguments, flag, capsys, tmp_path):
    (tmp_path / "f").touch()
    code = os.EX_CONFIG if arguments[0] == "serve" else 1
    assert command.main([*arguments, f"{flag}={tmp_path}/f"]) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert f" ({flag}): {tmp_path}/f is a file, and a " in error


def test_check_config_finds_a_state_directory_that_is_a_file_by_its_key(capsys, tmp_path):
    (tmp_path / "state").touch()
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"account": {"state_directory": str(tmp_path / "state")}}))
    assert command.main(["check-config", str(file)]) == 1
    assert "account.state_directory (--path.state): " in capsys.readouterr().err
