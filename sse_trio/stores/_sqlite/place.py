# Where the database is: its path, who may read it, and whether the file there is still the one that was opened.
#
# Rule 1: the file holds what users wrote, so it is made for its owner alone (0600, the directory of wake-ups 0700).
#         SQLite gives its own two files the same mode. An existing file keeps its mode.
# Rule 2: SQLite goes on with files that were deleted, replaced or moved, as long as it has them open. What it commits
#         then is gone with the process, and no other process sees it. So the store looks at the names before each
#         answer and after each commit: it acknowledges an append only if the names still lead to the files it opened.
# Rule 3: nothing here opens the file, because closing it would release the locks that SQLite holds on it in this
#         process.

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from typing import cast, final

from ..._arguments.checks import wrong

__all__ = ("OpenFiles", "check_mode", "check_path", "inode_of", "make_directory", "make_file")

_logger = logging.getLogger("sse_trio")
_Inode = tuple[int, int]  # with its device
_MODE = "permissions that let the owner read and write, such as 0o600 or 0o660"


def check_path(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a database, without a look at the disk.

    Raises:
        TypeError: it is not a path.
        ValueError: SQLite, but not this store, would open it as a database.
    """
    if not isinstance(cast("object", path), (str, os.PathLike)):
        raise wrong(TypeError, "path", "a str or a pathlib.Path", path)
    text = os.fsdecode(path)
    if text.startswith(":memory:"):
        raise wrong(ValueError, "path", "the path of a file (write MemoryStore() to keep events in memory)", text)
    if text.startswith("file:"):
        raise wrong(ValueError, "path", "the path of a file itself, not a URI", text)
    if not text or "\0" in text:
        raise wrong(ValueError, "path", "the path of a file, without NUL characters", text)
    return os.path.abspath(text)  # noqa: PTH100 -- Path.resolve() would look at the disk, in what may be an event loop


def check_mode(mode: int) -> int:
    """Return the mode for new files. Their owner must be able to read and write them."""
    if not isinstance(cast("object", mode), int) or isinstance(mode, bool):
        raise wrong(TypeError, "mode", _MODE, mode)
    if not 0 <= mode <= 0o777 or mode & 0o600 != 0o600:
        raise wrong(ValueError, "mode", _MODE, mode)
    return mode


def make_file(path: str, mode: int) -> None:
    """Make an empty file, unless it exists. Blocks. Raises OSError."""
    try:
        _make_new_file(path, mode)
    except FileExistsError:
        _warn_of_others(path, mode)
    else:
        _widen(path, mode)


def _make_new_file(path: str, mode: int) -> None:
    if hasattr(os, "mknod"):
        try:
            os.mknod(path, mode | stat.S_IFREG)
        except FileExistsError:
            raise
        except OSError:
            pass  # only root may do this on macOS; any other error shows below
        else:
            return
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, mode))  # SQLite has no locks on a file this new


def make_directory(path: str, mode: int) -> None:
    """Make a directory for the users of files of ``mode``, unless it exists. Blocks. Raises OSError."""
    mode |= (mode & 0o444) >> 2
    with suppress(FileExistsError):
        os.mkdir(path, mode)  # noqa: PTH102 -- beside its fellows here
        _widen(path, mode)


def _widen(path: str, mode: int) -> None:
    if mode & 0o077:  # the umask may have removed permissions
        os.chmod(path, mode)  # noqa: PTH101


def _warn_of_others(path: str, mode: int) -> None:
    found = os.stat(path).st_mode  # noqa: PTH116
    others = found & 0o066 & ~mode
    if os.name == "posix" and stat.S_ISREG(found) and others:
        _logger.warning(
            "%s is open to other users (its mode is %03o): chmod %03o it, its -wal and its -shm, or give mode=0o%03o",
            path,
            found & 0o777,
            mode,
            found & 0o777,
        )


@final
class OpenFiles:
    """The names of an open database, and the files that they named when SQLite had opened all three."""

    __slots__ = ("_inodes", "_names")

    def __init__(self, path: str) -> None:
        beside = os.path.realpath(path)  # SQLite puts its own files beside the file that a link leads to
        self._names = {"the file": path, "its -wal": f"{beside}-wal", "its -shm": f"{beside}-shm"}
        self._inodes = [inode_of(name) for name in self._names.values()]

    def is_of(self, inode: _Inode | None) -> bool:
        """Whether the database is this file."""
        return self._inodes[0] == inode

    def check(self) -> None:
        """Raise OSError if another file, or none, has the name of one that was opened. Blocks."""
        for (what, name), inode in zip(self._names.items(), self._inodes, strict=True):
            if inode_of(name) != inode:
                raise OSError(
                    f"{what} was deleted, replaced or moved while it was open: move it back, or restart every process "
                    "that has it open, so that they use what is there then"
                )


def inode_of(path: str) -> _Inode | None:
    """Return the file that has this name, or None. Blocks."""
    try:
        found = os.stat(path)  # noqa: PTH116 -- some microseconds of each group of appends
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
