"""What every command's parser says of itself and of what it does not know."""

import argparse
import subprocess
import sys

import pytest

from exporter.cli import main as command
from exporter.cli.main import COMMANDS, parser_for


def complaint(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


def help_of(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        command.main([*arguments, "--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["run", "--nmae", "x", "--", "true"], "run"),
        (["runs", "--bogus"], "runs"),
        (["serve", "--bogus=1"], "serve"),
        (["--bogus"], "serve"),
        (["replay", "two-socket", "more"], "replay"),
        (["card", "write", "README.md", "--bogus"], "card write"),
        (["import", "codecarbon", "e.csv", "--bogus"], "import"),
        (["check-config", "one.yaml", "two.yaml"], "check-config"),
    ],
)
def test_a_wrong_argument_shows_the_usage_of_its_command(arguments, name, capsys):
    text = complaint(capsys, *arguments)
    assert text.startswith(f"usage: emissions-exporter {name} ")
    assert f"emissions-exporter {name}: error: unrecognized arguments: " in text


def test_a_mistyped_flag_is_answered_with_the_nearest_one(capsys):
    assert "--pth.state=x; did you mean --path.state?" in complaint(capsys, "--pth.state=x")
    assert "did you mean --name?" in complaint(capsys, "run", "--nmae", "x", "--", "true")


def test_flags_of_the_command_that_is_run_are_left_alone(tmp_path):
    arguments = ["run", f"--socket.path={tmp_path}/no.sock", "--", "echo", "--nmae"]
    ran = subprocess.run(
        [sys.executable, "-m", "exporter", *arguments], capture_output=True, check=True
    )
    assert ran.stdout == b"--nmae\n"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("serve", "Sampling interval. (default: 1.0)"),
        ("serve", "(default: :10680)"),
        ("serve", "(default: info)"),
        ("serve", "(default: logfmt)"),
        ("serve", "Enable the collector rapl (default: on)."),
        ("runs", "(default: table)"),
        ("runs", "agent.sock)"),
        ("run", "(default: tree)"),
        ("report", "(default: text)"),
        ("estimate", "Mean power as a fraction of the power limit, 0 to 1. (default: 1)"),
        ("leaderboard", "(default: grams)"),
    ],
)
def test_help_shows_the_default_of_an_option(name, shown, capsys):
    assert shown in help_of(capsys, name)


def options_of(parser):
    """All options and arguments of a parser and of those under it, each with its command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from options_of(inner)
        else:
            yield parser.prog, action


def test_every_option_of_every_command_has_help():
    bare = [
        f"{command} {'/'.join(action.option_strings) or action.dest}"
        for command, action in options_of(parser_for())
        if not action.help and action.nargs != argparse.REMAINDER
    ]
    assert bare == []


@pytest.mark.parametrize("name", ["report", "rules"])
def test_help_shows_a_default_duration_as_it_would_be_typed(name, capsys):
    assert "12h, 30d, 1y. (default: 30d)" in help_of(capsys, name)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_can_be_shown_and_repeats_no_default(name, capsys):
    text = help_of(capsys, name)
    assert "None" not in text
    assert "SUPPRESS" not in text
    assert ". (default: )" not in text


def test_options_are_not_abbreviated(capsys):
    with pytest.raises(SystemExit):
        command.main(["runs", "--name", "bert"])
    assert "unrecognized arguments: --name" in capsys.readouterr().err


def test_no_choices_are_printed_as_objects():
    choices = [
        choice
        for _, action in options_of(parser_for())
        if not isinstance(action, argparse._SubParsersAction)
        for choice in action.choices or ()
    ]
    assert {type(choice) for choice in choices} == {str}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["report", "bert", "--since=7d"], "report: --since requires --prometheus"),
        (["rules", "--budgets=b.yaml", "--since=7d"], "rules: --since requires --prometheus"),
        (
            ["leaderboard", "--prometheus.user=ada"],
            "leaderboard: --prometheus.user requires --prometheus",
        ),
        (
            ["report", "bert", "--prometheus=http://x", "--path.state=/x"],
            "report: --path.state cannot be used with --prometheus",
        ),
        (
            ["leaderboard", "--prometheus=http://x", "--socket.path=/x"],
            "leaderboard: --socket.path cannot be used with --prometheus",
        ),
        (
            ["leaderboard", "--from", "a.json", "--path.state=/x"],
            "leaderboard: --path.state cannot be used with --from",
        ),
    ],
)
def test_an_option_without_effect_is_rejected(arguments, text, capsys):
    assert command.main(arguments) != 0
    assert text in capsys.readouterr().err
