# What ends a server together with the tests that started it, however those end.
#
# Rule 1: a server leads a session, so that its workers, which are its children and nobody's else, are in its group.
# Rule 2: a pytest that is killed cleans nothing up. So a shell beside each server waits for the end of a pipe whose
#         other end is in this process only, and kills the group then. The kernel closes the pipe whatever happens.

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress

_WHEN_THE_PIPE_ENDS = 'read -r _; kill -s KILL -- "-$0"'


class Lifeline:
    """Between this process and one that was started with ``start_new_session=True``."""

    def __init__(self, process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
        self._process = process
        # In a session of its own: what ends the group of pytest must not end it.
        self._shell = subprocess.Popen(
            ("/bin/sh", "-c", _WHEN_THE_PIPE_ENDS, str(process.pid)), stdin=subprocess.PIPE, start_new_session=True
        )

    def cut(self) -> None:
        """Kill what is left of the group, and return when the process has ended."""
        self._shell.kill()  # first: the group's number may be another's when the process has been waited for
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
