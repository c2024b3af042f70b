# How a process learns that another has committed: a datagram to a unix socket beside the file.
#
# Rule 1: a wake-up is a hint without content, sent after COMMIT to each socket in `<file>.wake/`. A follower that gets
#         it reads the file; one that misses it (a full buffer, a cleared directory) reads at its next poll.
# Rule 2: the socket of a dead process refuses datagrams. The sender that notices this removes the socket. Other files
#         refuse as well, but stay: they aren't ours, and the directory may be a link that another user made.
# Rule 3: on Linux an address goes through the directory's descriptor, because the path of a socket may have only 107
#         bytes. Without unix sockets followers only poll.
#
# inotify on the WAL would need no socket, but it reports the write and not the commit: of 295 wake-ups measured, 55
# came before the events could be read.

from __future__ import annotations

import logging
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import final

from anyio import move_on_after, sleep, wait_readable

from .place import make_directory

__all__ = ("WakeSocket", "Waker")

_DESCRIPTORS = "/proc/self/fd"
_logger = logging.getLogger("sse_trio")


class _Directory:
    """The directory of the sockets, and the address of each."""

    def __init__(self, database: str, mode: int) -> None:
        self.path = f"{database}.wake"
        make_directory(self.path, mode)
        self._descriptor = os.open(self.path, os.O_RDONLY) if Path(_DESCRIPTORS).is_dir() else None

    def address(self, name: str) -> str:
        return f"{self.path if self._descriptor is None else f'{_DESCRIPTORS}/{self._descriptor}'}/{name}"

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


@final
class Waker:
    """Wakes the followers of a database in all processes."""

    def __init__(self, database: str, mode: int) -> None:
        self._directory = _Directory(database, mode)
        self._socket = _open_datagram_socket()
        self.spared: set[str] = set()
        """The names of sockets that are not woken."""

    def wake_all(self) -> None:
        """Send a wake-up to every follower. Never waits and never fails, because it is a hint."""
        if self._socket is not None:
            with suppress(OSError):
                for name in os.listdir(self._directory.path):  # noqa: PTH208 -- a tenth of the time of Path.iterdir
                    if name not in self.spared:
                        self._wake(self._socket, name)

    def _wake(self, sender: socket.socket, name: str) -> None:
        try:
            sender.sendto(b"\0", self._directory.address(name))
        except ConnectionRefusedError:
            path = Path(self._directory.path, name)
            if path.is_socket():
                path.unlink(missing_ok=True)
        except OSError:
            pass  # its buffer is full of wake-ups, or it has just been closed

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
        self._directory.close()


@final
class WakeSocket:
    """The socket that wakes one follower."""

    def __init__(self, database: str, mode: int) -> None:
        self._mode = mode
        self._directory = _Directory(database, mode)
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}.sock"
        self._socket = _open_datagram_socket()
        if self._socket is not None:
            self._bind(self._socket)

    def _bind(self, datagrams: socket.socket) -> None:
        try:
            datagrams.bind(self._directory.address(self.name))
            os.chmod(self._directory.address(self.name), self._mode)  # noqa: PTH101 -- a user that may write may wake
        except OSError as exc:
            _logger.warning(
                "no wake-ups in %s (%s): other processes' events come by polling", self._directory.path, exc
            )
            datagrams.close()
            self._socket = None

    async def wait(self, seconds: float) -> None:
        """Return when woken, or after ``seconds``. There may be nothing to read."""
        if self._socket is None:
            await sleep(seconds)
            return
        with move_on_after(seconds):
            await wait_readable(self._socket)
        with suppress(BlockingIOError):
            while True:  # one read of the file answers all earlier wake-ups
                self._socket.recv(1)

    def close(self) -> None:
        """Close the socket and remove it."""
        if self._socket is not None:
            self._socket.close()
            Path(self._directory.path, self.name).unlink(missing_ok=True)
        self._directory.close()


def _open_datagram_socket() -> socket.socket | None:
    if not hasattr(socket, "AF_UNIX"):  # pragma: no cover -- Windows
        return None
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.setblocking(False)
    return datagrams
