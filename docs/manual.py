"""The manual page, roff for man(7), from the parsers of the command line."""

import re
from collections.abc import Iterable, Iterator

from exporter import __version__
from exporter.cli.command_tree import DEFAULT_SOCKET_TEXT, CommandSpec, OptionSpec, describe_parser
from exporter.cli.main import DEFAULT, parser_for

PROGRAM = "emissions-exporter"
HELP = "--help"
NAMED = re.compile(r"^`[^`]*`:\s*")
"""How the description of a command begins, with its name."""

ENVIRONMENT = {
    "EMISSIONS_EXPORTER_SECTION_KEY": "A setting, for example "
    "`EMISSIONS_EXPORTER_CONVERT_ZONE=DE` for `convert.zone` of the file. A flag takes precedence "
    "over it, and it takes precedence over the file.",
    "XDG_STATE_HOME": "Directory of the state of users other than root. Default: ~/.local/state.",
    "XDG_RUNTIME_DIR": "Directory of the agent socket of users other than root.",
}
FILES = {
    "/var/lib/emissions-exporter": "Ledger and journal of a daemon of root or of the system.",
    "$XDG_STATE_HOME/emissions-exporter": "Those of a daemon of another user.",
    DEFAULT_SOCKET_TEXT: "The agent socket, where runs are registered.",
    "/run/emissions-exporter/jobs": "What the prolog of Slurm says about jobs.",
}
EXIT = {
    "0": "Success.",
    "1": "Failure; one line on standard error names what failed, why, and what to do.",
    "2": "The command line is wrong.",
    "75": "The daemon has to be started anew, for example after the NVIDIA driver was replaced; a "
    "supervisor such as systemd does that.",
    "78": "`serve` cannot start because of an error in its settings.",
    "130": "Interrupted.",
    "any": "`run` ends with the exit code of its command.",
}


def manual() -> str:
    """The whole page."""
    whole = describe_parser(parser_for())
    default = next(each for each in whole.commands if each.words == (DEFAULT,))
    lines = [
        f'.\\" Made by docs/generate.py.\n.TH EMISSIONS\\-EXPORTER 1 "" "{PROGRAM} {__version__}"',
        ".nh\n.ad l",
        f".SH NAME\n{_text(PROGRAM)} \\- {_text(_phrase(whole.description))}",
        f'.SH SYNOPSIS\n.B {_text(PROGRAM)}\n.RI [ COMMAND " " OPTION ...]',
        f".SH DESCRIPTION\n{_text(whole.description)}\nThe default command is \\fB{DEFAULT}\\fR.",
        ".SH OPTIONS",
        *(_tagged(option) for option in whole.options),
        ".SH COMMANDS",
    ]
    for command in (each for each in whole.all() if each.words):
        lines += _command(command, default)
    for title, entries in (("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES), ("EXIT STATUS", EXIT)):
        lines += [f".SH {title}", *(_entry(_bold(name), text) for name, text in entries.items())]
    lines.append(".SH SEE ALSO\n.BR prometheus (1),\n.BR systemctl (1)")
    return "\n".join(lines) + "\n"


def _command(command: CommandSpec, default: CommandSpec) -> Iterator[str]:
    """A command; options that it shares with the daemon are listed with the daemon alone."""
    yield f'.SS "{_text(" ".join((*command.words, *map(_usage, command.arguments))))}"'
    yield from _paragraphs(NAMED.sub("", command.description))
    is_like_daemon = command is not default and set(default.options) <= set(command.options)
    for option in (*command.arguments, *command.options):
        is_shared = is_like_daemon and option in default.options
        if HELP not in option.flags and not is_shared and (option.flags or option.text):
            yield _tagged(option)
    if is_like_daemon:
        yield f".PP\nAlso the options of {_bold(' '.join(default.words))}."


def _usage(argument: OptionSpec) -> str:
    name = "|".join(argument.choices) or argument.metavar
    name = f"{name}..." if argument.is_repeated and not name.endswith("...") else name
    return name if argument.is_required else f"[{name}]"


def _tagged(option: OptionSpec) -> str:
    value = f" \\fI{_text(option.metavar)}\\fR" if option.metavar and option.flags else ""
    names = ", ".join(f"{_bold(flag)}{value}" for flag in option.flags)
    text = option.text
    if option.choices and "|" not in option.metavar:
        text = f"{text} One of: {', '.join(option.choices)}.".strip()
    return _entry(names or f"\\fI{_text(option.metavar)}\\fR", text)


def _entry(name: str, text: str) -> str:
    return f".TP\n{name}\n{_text(text)}"


def _paragraphs(text: str) -> Iterable[str]:
    for paragraph in text.split("\n\n"):
        said = " ".join(paragraph.split())
        if said:
            yield f".PP\n{_text(said[0].upper() + said[1:])}"


def _phrase(text: str) -> str:
    """The first sentence, as it stands after a name and a dash."""
    first = text.partition(". ")[0].rstrip(".")
    return first[0].lower() + first[1:]


def _bold(text: str) -> str:
    return f"\\fB{_text(text)}\\fR"


def _text(text: str) -> str:
    """Text of one line, in which `names` are bold; no control line, no hyphen for a minus."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    if escaped.startswith((".", "'")):
        escaped = f"\\&{escaped}"
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", escaped).replace('"', "\\(dq")
