# The proxies under test, with the configuration that docs/deployment.md has: a block of the page is the file.
#
# Rule 1: what is put in the place of the page's addresses must stand there, so the page can't drift from the test.
# Rule 2: a proxy is given sockets that listen already, so nobody waits for it to start and no port is guessed.

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ._lifeline import Lifeline
from ._servers import wait_accepting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
NGINX = """\
daemon off; master_process on; worker_processes 1; pid nginx.pid; error_log stderr;
{user}events {{ worker_connections 1000; }}
http {{
    access_log off;
    client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
    include site.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs, and its ports: HTTP/1.1, and HTTP/2 over TLS."""

    process: subprocess.Popen[bytes]
    port: int
    tls_port: int


def blocks(language: str) -> list[str]:
    """The page's blocks in this language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def configured(language: str, changes: dict[str, str]) -> str:
    """The page's only block in this language, with a test's own addresses and times."""
    [text] = blocks(language)
    for there, here in changes.items():
        assert text.count(there) == 1, f"{there!r} is not once on the page"
        text = text.replace(there, here)
    return text


@contextmanager
def serve_nginx(folder: Path, upstream: int | str, certificate: Path, changes: dict[str, str]) -> Iterator[Proxy]:
    """nginx with the page's block as a site; it takes over sockets that listen where its configuration says.

    `upstream` is a port, or what the page's address of the server is replaced by.
    """
    server = upstream if isinstance(upstream, str) else f"127.0.0.1:{upstream}"

    def command(plain: socket.socket, tls: socket.socket) -> tuple[list[str], dict[str, str]]:
        own = {
            "listen 80;": f"listen 127.0.0.1:{port_of(plain)};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{port_of(tls)} ssl http2;",
            "127.0.0.1:8000": server,
            "/etc/ssl/example.org.pem": str(certificate / "cert.pem"),
            "/etc/ssl/example.org.key": str(certificate / "key.pem"),
        }
        (folder / "site.conf").write_text(configured("nginx", own | changes))
        user = "user root;\n" if os.geteuid() == 0 else ""  # or its workers could not write to the test's folder
        (folder / "nginx.conf").write_text(NGINX.format(user=user))
        arguments = ["nginx", "-p", str(folder), "-e", "stderr", "-c", "nginx.conf"]
        return arguments, {"NGINX": f"{plain.fileno()};{tls.fileno()};"}

    with _run(command) as proxy:
        yield proxy


@contextmanager
def serve_haproxy(folder: Path, upstream: int, certificate: Path, changes: dict[str, str]) -> Iterator[Proxy]:
    """HAProxy with the page's block as its configuration; it binds to sockets that it is given."""

    def command(plain: socket.socket, tls: socket.socket) -> tuple[list[str], dict[str, str]]:
        own = {
            "bind :80": f"bind fd@{plain.fileno()}",
            "bind :443": f"bind fd@{tls.fileno()}",
            "127.0.0.1:8000": f"127.0.0.1:{upstream}",
            "/etc/ssl/example.org.both.pem": str(certificate / "both.pem"),
        }
        (folder / "haproxy.cfg").write_text(configured("haproxy", own | changes))
        return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], {}

    with _run(command) as proxy:
        yield proxy


@contextmanager
def serve_caddy(folder: Path, port: int, upstream: int, certificate: Path) -> Iterator[None]:
    """Caddy with the page's block, on a port for HTTP/1.1, HTTP/2 and HTTP/3; it can't be given a socket."""
    if shutil.which("caddy") is None:
        pytest.skip("caddy is not installed")
    own = {
        "example.org {": f"https://localhost:{port} {{",
        "/etc/ssl/example.org.pem": str(certificate / "cert.pem"),
        "/etc/ssl/example.org.key": str(certificate / "key.pem"),
        "127.0.0.1:8000": f"127.0.0.1:{upstream}",
    }
    config = folder / "Caddyfile"
    config.write_text("{\n    admin off\n    auto_https off\n}\n" + configured("caddy", own))
    command = ("caddy", "run", "--config", str(config))
    process = subprocess.Popen(command, env={**os.environ, "HOME": str(folder)}, start_new_session=True)
    lifeline = Lifeline(process)
    try:
        wait_accepting(port)
        yield
        assert process.poll() is None, "the proxy has ended by itself"
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            lifeline.cut()


PROXIES = {"nginx": serve_nginx, "haproxy": serve_haproxy}
READ_TIMEOUT = {
    "nginx": {"proxy_read_timeout 60s": "proxy_read_timeout 1s"},
    "haproxy": {"timeout server 60s": "timeout server 1s"},
}


@contextmanager
def serve_proxy(
    name: str, folder: Path, upstream: int | str, certificate: Path, changes: dict[str, str] | None = None
) -> Iterator[Proxy]:
    """Run one of PROXIES before the server on this port, with changes to the page's block."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    with PROXIES[name](folder, upstream, certificate, changes or {}) as proxy:
        yield proxy


def port_of(listener: socket.socket) -> int:
    """The port that the kernel chose."""
    return int(listener.getsockname()[1])


@contextmanager
def _run(
    command: Callable[[socket.socket, socket.socket], tuple[list[str], dict[str, str]]],
) -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_server(("127.0.0.1", 0)) as tls:
        arguments, env = command(plain, tls)
        fds = (plain.fileno(), tls.fileno())
        process = subprocess.Popen(arguments, env={**os.environ, **env}, pass_fds=fds, start_new_session=True)
        lifeline = Lifeline(process)
        ports = port_of(plain), port_of(tls)
    try:
        yield Proxy(process, *ports)
        assert process.poll() is None, "the proxy has ended by itself"
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            lifeline.cut()
