"""Completion of the command line, by the shells themselves."""

import shutil
import subprocess

import pytest

from exporter.cli.command_tree import describe_parser
from exporter.cli.main import COMMANDS, DEFAULT, main, parser_for

ASK = """
compopt() { :; }
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_emissions_exporter
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(tmp_path, capsys):
    """Writes the script of a shell."""

    def write(shell):
        assert main(["completion", shell]) == 0
        path = tmp_path / f"_{shell}"
        path.write_text(capsys.readouterr().out)
        return str(path)

    return write


@pytest.fixture
def complete(script, tmp_path):
    """What bash proposes for the last of these words."""

    def ask(*words):
        done = subprocess.run(
            ["bash", "--norc", "-c", ASK, "bash", script("bash"), "emissions-exporter", *words],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return ask


def test_commands_come_first(complete):
    assert complete("") == list(COMMANDS)
    assert complete("check") == ["check-config"]
    assert complete("card", "") == ["write", "check", "models"]


def test_flags_are_those_of_the_command(complete):
    assert complete("rules", "--b") == ["--budgets"]
    assert complete("card", "write", "--t") == ["--training-type"]
    assert complete("card", "models", "--m") == ["--min-grams", "--max-grams"]
    assert "--web.telemetry-path" in complete("serve", "--web.")
    assert complete("serve", "--budgets") == []


def test_flags_without_a_command_are_those_of_the_daemon(complete):
    assert complete("--ver") == ["--version"]
    assert complete("--web.l") == ["--web.listen-address"]
    assert complete("--log.level", "e") == ["error"]
    assert complete("--log.format", "json", "--log.le") == ["--log.level"]


@pytest.mark.parametrize("words", [("--log.level", "d"), ("--log.level", "=", "d")])
def test_values_of_a_list_are_proposed(complete, words):
    assert complete("serve", *words) == ["debug"]


def test_a_value_that_has_just_begun_is_proposed(complete):
    assert complete("serve", "--log.format", "=") == ["logfmt", "json"]
    assert complete("completion", "") == ["bash", "zsh"]


@pytest.mark.parametrize(
    "words",
    [
        ("serve", "--config.file", "my"),
        ("serve", "--config.file", "=", "my"),
        ("check-config", "my"),
        ("card", "check", "my"),
        ("dashboards", "my"),
        ("import", "codecarbon", "my"),
    ],
)
def test_paths_are_proposed_where_a_path_is_expected(complete, tmp_path, words):
    (tmp_path / "my.yaml").touch()
    assert complete(*words) == ["my.yaml"]


def test_a_value_of_which_nothing_is_known_has_no_proposals(complete, tmp_path):
    (tmp_path / "my.yaml").touch()
    assert complete("serve", "--convert.zone", "") == []
    assert complete("runs", "") == []


def test_after_two_dashes_the_programs_of_the_machine_are_proposed(complete):
    assert "bash" in complete("run", "--name", "x", "--", "bas")
    assert complete("run", "--", "bash", "--ver") == []


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_can_read_the_script(script, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    subprocess.run([shell, "-n", script(shell)], check=True)


def test_zsh_proposes_what_the_parsers_know(script):
    if shutil.which("zsh") is None:
        pytest.skip("no zsh")
    ask = """
    _arguments() { print -l -- "$@" }
    _describe() { print -l -- "${(P)4}" "${(@P)4}" }
    compdef() { : }
    source $1; shift
    words=("$@"); CURRENT=$#; _emissions_exporter
    """

    def asked(*words):
        done = subprocess.run(
            ["zsh", "-fc", ask, "zsh", script("zsh"), "emissions-exporter", *words],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout

    assert "healthcheck:Ask the daemon whether it is alive." in asked("")
    assert "--log.format=[Format of log lines]:value:(logfmt json)" in asked("serve", "--")
    assert "--version[Show the version and exit]" in asked("--")
    assert "--log.level=" in asked("--")
    assert "*:FILE:_files" in asked("card", "check", "")
    assert "*::arguments:_normal" in asked("run", "")
    assert ":value:(bash zsh)" in asked("completion", "")


def test_every_word_that_is_proposed_is_one_word_of_the_shell():
    for command in describe_parser(parser_for()).all():
        for option in (*command.options, *command.arguments):
            for word in (*option.flags, *option.choices):
                assert set(word) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-"), word


def test_the_default_command_is_one():
    assert DEFAULT in COMMANDS
