# A server of the demo as its first process sees it: started, stopped, started again.

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from subprocess import PIPE

import anyio
from anyio.abc import Process

__all__ = ("PATIENCE", "ServerProcess")

PATIENCE = 10.0  # seconds that a server has to stop before it is killed
log = logging.getLogger("demo")


class ServerProcess:
    """A server that serves one of the demo's applications."""

    def __init__(self, server: str, module: str, host: str, port: int, folder: str) -> None:
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        self.stopped_in: float | None = None
        """Seconds that the last stop took; at most `PATIENCE`, when it was killed."""
        self._command = [sys.executable, str(Path(__file__).with_name("serve.py")), server, module, host, str(port)]
        self._env = {**os.environ, "DEMO_FOLDER": folder}
        self._process: Process | None = None
        self._is_wanted = False
        self._started = anyio.Event()

    async def start(self) -> None:
        """Start it. It gets no Ctrl+C of the terminal's, which the first process passes on as SIGTERM."""
        self._is_wanted = True
        self._process = await anyio.open_process(
            self._command, env=self._env, stdin=PIPE, stdout=None, stderr=None, start_new_session=True
        )
        self._started.set()
        self._started = anyio.Event()

    async def stop(self, patience: float = PATIENCE) -> None:
        """Send SIGTERM and wait until it has ended; after `patience` seconds kill it."""
        self._is_wanted = False
        process, self._process = self._process, None
        if process is None:
            return
        began = anyio.current_time()
        process.terminate()
        with anyio.move_on_after(patience) as scope:
            await process.wait()
        if scope.cancel_called:
            process.kill()
            await process.wait()
        self.stopped_in = round(anyio.current_time() - began, 2)
        await process.aclose()

    async def wait_failed(self) -> int:
        """Return the exit status of a server that ended although nobody stopped it."""
        while True:
            started = self._started
            if self._process is not None:
                status = await self._process.wait()
                if self._is_wanted:
                    return status
            await started.wait()
