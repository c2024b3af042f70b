# --print-completion: a script that completes the commands and options of sse-trio, for bash, zsh or fish.
#
# Rule 1: the script holds all the words, so that a Tab starts no Python. A new version may need a new script.
# Rule 2: a value is completed as a file: it may be one, and a script can't know more.
# Rule 3: what is completed is read from the commands themselves, so that nothing is listed twice.

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple, cast

from typer.core import TyperCommand, TyperGroup

__all__ = ("Shell", "completion_for")

PROGRAM = "sse-trio"
FILES = "*:file:_files"


class Shell(str, Enum):
    """A shell that there is a script for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


class _Option(NamedTuple):
    names: list[str]
    help: str
    has_value: bool
    is_repeated: bool


class _Command(NamedTuple):
    name: str
    help: str
    options: list[_Option]


def completion_for(shell: Shell, program: TyperGroup) -> str:
    """Return the script for a shell."""
    commands = [_command(name, cast("TyperCommand", each)) for name, each in program.commands.items()]
    scripts = {Shell.bash: _bash, Shell.zsh: _zsh, Shell.fish: _fish}
    return scripts[shell](_options(program), commands)


def _command(name: str, command: TyperCommand) -> _Command:
    return _Command(name, (command.help or "").partition("\n")[0], _options(command))


def _options(command: TyperCommand | TyperGroup) -> list[_Option]:
    """Return the options of a command, and the ``--help`` that each has."""
    return [
        *(
            _Option(each.opts, getattr(each, "help", None) or "", not getattr(each, "is_flag", False), each.multiple)
            for each in command.params
            if each.opts[0].startswith("-")
        ),
        _Option(["--help"], "Show the help, and exit.", has_value=False, is_repeated=False),
    ]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", r"'\''") + "'"


# --- bash


def _bash(options: list[_Option], commands: list[_Command]) -> str:
    first = _quoted(" ".join([*(command.name for command in commands), *_names(options)]))
    cases = "\n".join(
        f"        {command.name}) options={_quoted(' '.join(_names(command.options)))} ;;" for command in commands
    )
    return f"""\
_sse_trio() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} options=''
    COMPREPLY=()
    case ${{COMP_WORDS[1]}} in
{cases}
    esac
    if [[ $COMP_CWORD == 1 ]]; then
        COMPREPLY=($(compgen -W {first} -- "$word"))
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    fi
}}
complete -o default -F _sse_trio {PROGRAM}
"""


def _names(options: list[_Option]) -> Iterator[str]:
    return (name for option in options for name in option.names)


# --- zsh


def _zsh(options: list[_Option], commands: list[_Command]) -> str:
    first = " ".join(_quoted(f"{command.name}:{_zsh_help(command.help)}") for command in commands)
    cases = "\n".join(
        f"        {command.name}) _arguments{_zsh_lines([*_zsh_specs(command.options), FILES])} ;;"
        for command in commands
    )
    return f"""\
#compdef {PROGRAM}
_sse_trio() {{
    local -a commands=({first})
    if (( CURRENT == 2 )); then
        _describe command commands
        _arguments{_zsh_lines(_zsh_specs(options))}
        return
    fi
    shift words
    (( CURRENT-- ))
    case $words[1] in
{cases}
    esac
}}
if [[ $funcstack[1] == _sse_trio ]]; then _sse_trio "$@"; else compdef _sse_trio {PROGRAM}; fi
"""


def _zsh_lines(words: Iterable[str]) -> str:
    return "".join(f" \\\n            {_quoted(word)}" for word in words)


def _zsh_specs(options: list[_Option]) -> Iterator[str]:
    for option in options:
        others = "*" if option.is_repeated else f"({' '.join(option.names)})"
        value = ":value:_files" if option.has_value else ""
        yield from (f"{others}{name}[{_zsh_help(option.help)}]{value}" for name in option.names)


def _zsh_help(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


# --- fish


def _fish(options: list[_Option], commands: list[_Command]) -> str:
    none = "__fish_use_subcommand"
    lines = [f"complete -c {PROGRAM} -n {none} -f"]
    lines += [f"complete -c {PROGRAM} -n {none} -a {each.name} -d {_fish_quoted(each.help)}" for each in commands]
    lines += [_fish_line(none, option) for option in options]
    for command in commands:
        seen = _fish_quoted(f"__fish_seen_subcommand_from {command.name}")
        lines += [_fish_line(seen, option) for option in command.options]
    return "\n".join(lines) + "\n"


def _fish_line(condition: str, option: _Option) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    value = " -r -F" if option.has_value else ""
    return f"complete -c {PROGRAM} -n {condition} {names}{value} -d {_fish_quoted(option.help)}"


def _fish_quoted(text: str) -> str:
    return "'" + re.sub(r"(['\\])", r"\\\1", text) + "'"
