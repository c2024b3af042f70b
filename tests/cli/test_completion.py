"""sse-trio --print-completion: scripts that complete its commands and options, in the shells themselves."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from sse_trio.__main__ import main

COMMANDS = ["decode", "publish", "tail"]
# What each shell is given: to complete $LINE with the script in $SCRIPT, and to print what it would offer.
BASH = """
source "$SCRIPT"
COMP_WORDS=($LINE); [[ $LINE == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_sse_trio
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { :; }
_describe() { print -l -- $commands; }
_arguments() { print -l -- "$@"; }
source "$SCRIPT"
words=("${(@s: :)LINE}"); CURRENT=$#words
_sse_trio
"""
FISH = 'source "$SCRIPT"; complete -C "$LINE"'
SHELLS = {"bash": ("bash", "--norc", "-c", BASH), "zsh": ("zsh", "-f", "-c", ZSH), "fish": ("fish", "-c", FISH)}


@pytest.fixture(params=SHELLS)
def complete(request, tmp_path, capsys):
    """Complete a line in this shell, and return the words that it offers."""
    shell = request.param
    assert main(["--print-completion", shell]) == 0
    if shutil.which(shell) is None:
        pytest.skip(f"not applicable: there is no {shell} here")
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out, encoding="utf-8")

    def complete(line):
        environment = {"SCRIPT": str(script), "LINE": line, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(SHELLS[shell], check=True, env=environment, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        return re.findall(r"(?m)^(?:\(.*?\)|\*)?([-\w]+)", done.stdout)

    return complete


def options_of(command, capsys):
    """The names of a command's options, from its help."""
    assert main([*command, "--help"]) == 0
    return set(re.findall(r"(?m)^  (?:-\w, )?(--[-\w]+)", capsys.readouterr().out))


def test_commands(complete, capsys):
    """At first it offers each command, and the program's own options for who begins with a dash."""
    assert set(complete("sse-trio ")) >= set(COMMANDS)
    assert set(complete("sse-trio -")) >= options_of([], capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_options(command, complete, capsys):
    """After a command it offers every option that the command's help has, and none of another command."""
    options = {word for word in complete(f"sse-trio {command} --") if word.startswith("--")}
    assert options == options_of([command], capsys)


def test_files_are_completed(tmp_path, monkeypatch, capsys):
    """Where no option is asked for, the shell completes the names of files."""
    assert main(["--print-completion", "bash"]) == 0
    assert "complete -o default " in capsys.readouterr().out


def test_an_unknown_shell(capsys):
    """Another shell is exit code 2, and the message names those that there are."""
    assert main(["--print-completion", "tcsh"]) == 2
    err = capsys.readouterr().err
    assert all(shell in err for shell in SHELLS)
