"""`completion`: print the completion of this command line for a shell.

For bash: write it to ~/.local/share/bash-completion/completions/emissions-exporter, or
`source <(emissions-exporter completion bash)`. For zsh: write it to a file `_emissions-exporter` in
a directory of $fpath.
"""

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from exporter.cli.command_tree import CommandSpec, OptionSpec, describe_parser

RUN_COMMAND = ("run",)
"""The command after whose `--` the command line of another program follows."""

BASH = """\
# bash completion of emissions-exporter, made by `emissions-exporter completion bash`
_emissions_exporter() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
    local command=${{COMP_WORDS[1]}} flags= words= files= i
    COMPREPLY=()
    # Bash takes --flag=value for three words.
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    if [[ $command == {run} ]]; then
        for ((i = 2; i < COMP_CWORD; i++)); do
            [[ ${{COMP_WORDS[i]}} == -- ]] || continue
            if ((i + 1 == COMP_CWORD)); then
                COMPREPLY=($(compgen -c -- "$current"))
            else
                compopt -o default
            fi
            return
        done
    fi
    if ((COMP_CWORD == 1)); then
        command=
    elif [[ $command == -* ]]; then
        command={default}
    elif ((COMP_CWORD > 2)); then
        case "$command ${{COMP_WORDS[2]}}" in
            {nested}) command+=" ${{COMP_WORDS[2]}}" ;;
        esac
    fi
    case "$command $previous" in
{values}
    esac
    case $command in
{commands}
    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$current"))
        return
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    [[ $files ]] && _emissions_exporter_files
}}
_emissions_exporter_files() {{
    local IFS=$'\\n'
    compopt -o filenames
    COMPREPLY+=($(compgen -f -- "$current"))
}}
complete -F _emissions_exporter emissions-exporter
"""

ZSH = """\
#compdef emissions-exporter
# zsh completion of emissions-exporter, made by `emissions-exporter completion zsh`
{functions}
if [[ $funcstack[1] == _emissions-exporter ]]; then
    _emissions_exporter "$@"
else
    compdef _emissions_exporter emissions-exporter
fi
"""
ZSH_COMMAND = """\
{name}() {{
    _arguments -s -S "$@" \\
        {specs}
}}
"""
ZSH_COMMANDS = """\
{name}() {{
    local -a commands=(
        {summaries}
    )
    if [[ $words[2] == -* ]]; then
        {options}
    elif ((CURRENT == 2)); then
        _describe -t commands command commands
    else
        local command=$words[2]
        shift words
        ((CURRENT--))
        case $command in
            {cases}
        esac
    fi
}}
"""


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "completion", help="Print completion for bash or zsh.", description=__doc__
    )
    parser.add_argument("shell", choices=("bash", "zsh"), help="The shell.")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the script."""
    from exporter.cli.main import DEFAULT, parser_for

    write = bash if options.shell == "bash" else zsh
    print(write(describe_parser(parser_for()), DEFAULT), end="")
    return 0


def bash(whole: CommandSpec, default: str) -> str:
    """The script for bash; `default` is the command that runs where none is named."""
    every = list(whole.all())
    return BASH.format(
        run=_joined(RUN_COMMAND),
        default=default,
        nested=" | ".join(f'"{_joined(each.words)}"' for each in every if len(each.words) > 1),
        values="\n".join(line for each in every for line in _bash_values(each)),
        commands="\n".join(_bash_command(each, whole, default) for each in every),
    )


def _bash_values(command: CommandSpec) -> Iterator[str]:
    """A case for the value of each option that has one."""
    for option in command.options:
        if not option.metavar:
            continue
        reply = ":"
        if option.is_path:
            reply = "_emissions_exporter_files"
        elif option.choices:
            reply = f'COMPREPLY=($(compgen -W "{_joined(option.choices)}" -- "$current"))'
        names = " | ".join(f'"{_joined((*command.words, flag))}"' for flag in option.flags)
        yield f"        {names}) {reply}; return ;;"


def _bash_command(command: CommandSpec, whole: CommandSpec, default: str) -> str:
    options = (
        command.options
        if command.words
        else (*command.options, *_find_command(whole, default).options)
    )
    flags = dict.fromkeys(flag for option in options for flag in option.flags)
    words = [each.words[-1] for each in command.commands]
    words += [choice for argument in command.arguments for choice in argument.choices]
    lines = [f'"{_joined(command.words)}")', f'    flags="{_joined(flags)}"']
    lines += [f'    words="{_joined(words)}"'] if words else []
    lines += ["    files=yes"] if any(argument.is_path for argument in command.arguments) else []
    return "\n".join(f"        {line}" for line in (*lines, "    ;;"))


def zsh(whole: CommandSpec, default: str) -> str:
    """The script for zsh; `default` is the command that runs where none is named."""
    functions = (
        _zsh_commands(each, whole, default) if each.commands else _zsh_command(each)
        for each in whole.all()
    )
    return ZSH.format(functions="".join(functions))


def _zsh_command(command: CommandSpec) -> str:
    specs = [spec for option in command.options for spec in _zsh_option(option)]
    if command.words == RUN_COMMAND:
        specs += ["'(-)1:command:_command_names -e'", "'*::arguments:_normal'"]
    else:
        specs += [_zsh_argument(argument) for argument in command.arguments]
    return ZSH_COMMAND.format(name=_function(command), specs=" \\\n        ".join(specs))


def _zsh_commands(command: CommandSpec, whole: CommandSpec, default: str) -> str:
    options = " ".join(spec for option in command.options for spec in _zsh_option(option))
    fallback = "_arguments" if command.words else _function(_find_command(whole, default))
    return ZSH_COMMANDS.format(
        name=_function(command),
        summaries="\n        ".join(
            _quoted(f"{each.words[-1]}:{each.summary}") for each in command.commands
        ),
        options=f"{fallback} {options}",
        cases="\n            ".join(
            f"{each.words[-1]}) {_function(each)} ;;" for each in command.commands
        ),
    )


def _zsh_option(option: OptionSpec) -> Iterator[str]:
    text = _zsh_escaped(option.text.partition(". ")[0].rstrip("."))
    for flag in option.flags:
        repeated = "*" if option.is_repeated else ""
        value = f":{_zsh_value(option)}" if option.metavar else ""
        sign = "=" if option.metavar and flag.startswith("--") else ""
        yield _quoted(f"{repeated}{flag}{sign}[{text}]{value}")


def _zsh_argument(argument: OptionSpec) -> str:
    place = "*:" if argument.is_repeated else ":" if argument.is_required else "::"
    return _quoted(f"{place}{_zsh_value(argument)}")


def _zsh_value(option: OptionSpec) -> str:
    """The message of a value, and how it is completed."""
    action = " "
    if option.is_path:
        action = "_files"
    elif option.choices:
        action = f"({_joined(option.choices)})"
    message = "value" if option.choices else _zsh_escaped(option.metavar)
    return f"{message}:{action}"


def _zsh_escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\[]:" else c for c in text)


def _find_command(whole: CommandSpec, name: str) -> CommandSpec:
    return next(each for each in whole.commands if each.words == (name,))


def _function(command: CommandSpec) -> str:
    return "_".join(("_emissions_exporter", *command.words)).replace("-", "_")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _joined(words: Iterable[str]) -> str:
    return " ".join(words)
