# The commands of python -m sse_trio: tail.py, decode.py, publish.py. Needs typer and httpx, the extra `cli`.
#
# Rule 1: main() takes arguments and returns an exit code. It never ends the process. It shows a traceback only for our
#         own bugs.
# Rule 2: a wrong argument is reported before anything is done, in the command line's words and on one line. Therefore
#         rich_markup_mode is off: its boxes break lines.

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer
from typer.core import TyperGroup

from .completion import Shell, completion_for
from .decode import decode
from .exits import EXTRA_MISSING, FAILED, INTERRUPTED, WRONG_ARGUMENTS
from .publish import publish
from .tail import tail

__all__ = ("main",)

_HELP = (
    "Look at streams of server-sent events, and publish to them.\n\n"
    "Exit codes: 0, the stream ended, or the program that read the output stopped; "
    f"{FAILED}, it was refused, it broke and --no-reconnect was given, or an event was too large; "
    f"{WRONG_ARGUMENTS}, wrong arguments; {EXTRA_MISSING}, a package is missing; {INTERRUPTED}, Ctrl+C."
)


def main(argv: Sequence[str], program: str = "python -m sse_trio") -> int:
    """Run one command and return its exit code. The program's name is for messages."""
    # The screen shows what the client would log.
    logging.getLogger("sse_trio.client").addHandler(logging.NullHandler())
    app = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True, help=_HELP
    )
    app.callback()(_options)
    app.command()(tail)
    app.command()(decode)
    app.command()(publish)
    code: object = 0
    try:
        app(args=list(argv), prog_name=program)
    except SystemExit as exc:
        code = exc.code
    return code if isinstance(code, int) else FAILED


def _show_version(wanted: bool) -> None:  # noqa: FBT001 -- typer's callback
    if wanted:
        typer.echo(f"sse-trio {version('sse-trio')}")
        raise typer.Exit


def _print_completion(context: typer.Context, shell: Shell | None) -> None:
    if shell is not None:
        assert isinstance(context.command, TyperGroup)
        typer.echo(completion_for(shell, context.command), nl=False)
        raise typer.Exit


def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit.")
    ] = False,
    print_completion: Annotated[
        Shell | None,
        typer.Option(
            callback=_print_completion,
            is_eager=True,
            help="Print a script that completes the commands, and exit.",
        ),
    ] = None,
) -> None:
    pass
