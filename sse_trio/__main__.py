# python -m sse_trio: the way into _cli/__init__.py, which needs packages that not every installation has.
#
# Rule 1: this file imports nothing that may be missing, and says in one line what to install.

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ("main",)

EXTRA_MISSING = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; 3 if the extra ``cli`` isn't installed. See ``--help``."""
    try:
        from . import _cli  # noqa: PLC0415 -- what it needs may be missing
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.startswith("sse_trio"):
            raise
        print(f"python -m sse_trio needs {exc.name}: pip install 'sse-trio[cli]'", file=sys.stderr)  # noqa: T201
        return EXTRA_MISSING
    if argv is not None:
        return _cli.main(argv)
    program = Path(sys.argv[0]).name  # the console script's, or that of this file
    return _cli.main(sys.argv[1:], "python -m sse_trio" if program == "__main__.py" else program)


if __name__ == "__main__":
    sys.exit(main())
