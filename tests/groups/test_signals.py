"""Chained signal handlers: ours before theirs, in any order of coming and going, and theirs put back."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from sse_trio._groups.signals import SIGNALS, SignalChain, _Link

Handler = Callable[[int, FrameType | None], object]


class Server:
    """Handles signals as uvicorn does, and notes them."""

    def __init__(self, log: list[str], name: str = "server") -> None:
        self.name = name
        self.log = log

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        """Be the handler."""
        self.log.append(f"{self.name} {signal.Signals(number).name}")

    def install(self) -> None:
        """Handle the signals from now on."""
        for number in SIGNALS:
            signal.signal(number, self.handle_exit)


@pytest.fixture(autouse=True)
def restored_handlers() -> Iterator[None]:
    """Whatever a test does, the handlers of the test run are back after it."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def log() -> list[str]:
    """The callbacks that have noticed a signal."""
    return []


@pytest.fixture
def server(log: list[str]) -> Server:
    """A server that has installed its handlers."""
    server = Server(log)
    server.install()
    return server


def new_chain(log: list[str], name: str) -> SignalChain:
    """A chain that notes each signal."""
    return SignalChain(functools.partial(log.append, name))


def send(log: list[str], number: int = signal.SIGTERM) -> list[str]:
    """Send the signal to this process, and return who noticed it."""
    log.clear()
    signal.raise_signal(number)
    return log[:]


@pytest.mark.parametrize("number", SIGNALS)
def test_ours_is_called_before_theirs(log: list[str], server: Server, number: int) -> None:
    """The chain notices a signal and then passes it on to the server's handler."""
    chain = new_chain(log, "group")
    chain.install()
    assert send(log, number) == ["group", f"server {signal.Signals(number).name}"]
    assert send(log, number) == ["group", f"server {signal.Signals(number).name}"]
    chain.uninstall()


def test_theirs_is_put_back(log: list[str], server: Server) -> None:
    """Uninstalling restores the previous handler; uninstalling twice does nothing more."""
    chain = new_chain(log, "group")
    for _ in range(2):
        chain.install()
        chain.uninstall()
        chain.uninstall()
        assert [signal.getsignal(number) for number in SIGNALS] == [server.handle_exit] * 2
    assert send(log) == ["server SIGTERM"]


def test_installed_twice(log: list[str], server: Server) -> None:
    """Installing a chain twice does nothing more."""
    chain = new_chain(log, "group")
    chain.install()
    chain.install()
    assert send(log) == ["group", "server SIGTERM"]
    chain.uninstall()
    assert signal.getsignal(signal.SIGTERM) == server.handle_exit


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler])
def test_nobody_to_call(log: list[str], handler: Handler) -> None:
    """If there is no handler, or only Python's own for Ctrl+C, the chain doesn't install one."""
    for number in SIGNALS:
        signal.signal(number, handler)
    chain = new_chain(log, "group")
    chain.install()
    assert [signal.getsignal(number) for number in SIGNALS] == [handler] * 2
    chain.uninstall()
    assert [signal.getsignal(number) for number in SIGNALS] == [handler] * 2


def test_only_in_the_main_thread(log: list[str], server: Server) -> None:
    """Outside the main thread, where Python allows no handlers, the chain does nothing."""
    chain = new_chain(log, "group")
    thread = threading.Thread(target=lambda: (chain.install(), chain.uninstall()))
    thread.start()
    thread.join()
    assert send(log) == ["server SIGTERM"]


def test_handler_that_raises(log: list[str]) -> None:
    """An exception of the server's handler is raised unchanged."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    chain = new_chain(log, "group")
    chain.install()
    with pytest.raises(KeyboardInterrupt):
        send(log)
    assert log == ["group"]
    chain.uninstall()


def test_their_handler_sees_the_frame(log: list[str]) -> None:
    """The server's handler gets the interrupted frame; trio needs it to know whether it may raise."""
    frames: list[FrameType | None] = []
    signal.signal(signal.SIGTERM, lambda _, frame: frames.append(frame))
    chain = new_chain(log, "group")
    chain.install()
    send(log)
    chain.uninstall()
    assert frames[0] is not None
    assert frames[0].f_code.co_name == "send"


# --- several


def depth_of(handler: Any) -> int:
    """The number of our handlers in front of the server's."""
    return 0 if not isinstance(handler, _Link) else 1 + depth_of(handler.previous)


def test_several_in_order(log: list[str], server: Server) -> None:
    """With several groups each is called, and the server's handler last."""
    first, second = new_chain(log, "first"), new_chain(log, "second")
    first.install()
    second.install()
    assert send(log) == ["second", "first", "server SIGTERM"]
    second.uninstall()
    assert send(log) == ["first", "server SIGTERM"]
    first.uninstall()
    assert signal.getsignal(signal.SIGTERM) == server.handle_exit


def test_first_come_first_gone(log: list[str], server: Server) -> None:
    """A chain that is removed from below another no longer calls its group; the server's handler is still called."""
    first, second = new_chain(log, "first"), new_chain(log, "second")
    first.install()
    second.install()
    first.uninstall()
    assert send(log) == ["second", "server SIGTERM"]
    second.uninstall()
    assert signal.getsignal(signal.SIGTERM) == server.handle_exit


def test_gone_and_back_behind_another(log: list[str], server: Server) -> None:
    """However chains come and go, each installed one is called once, and so is the server's handler."""
    first, second = new_chain(log, "first"), new_chain(log, "second")
    first.install()
    second.install()
    for _ in range(50):
        first.uninstall()
        assert sorted(send(log)) == ["second", "server SIGTERM"]
        first.install()
        assert sorted(send(log)) == ["first", "second", "server SIGTERM"]
        second.uninstall()
        assert sorted(send(log)) == ["first", "server SIGTERM"]
        second.install()
        assert sorted(send(log)) == ["first", "second", "server SIGTERM"]
    assert depth_of(signal.getsignal(signal.SIGTERM)) == 2
    first.uninstall()
    second.uninstall()
    assert signal.getsignal(signal.SIGTERM) == server.handle_exit


def test_somebody_else_on_top(log: list[str], server: Server) -> None:
    """A handler that was installed after ours stays, and still reaches the server's handler through ours."""
    chain = new_chain(log, "group")
    chain.install()
    below = signal.getsignal(signal.SIGTERM)
    assert callable(below)

    def on_top(number: int, frame: FrameType | None) -> None:
        log.append("on top")
        below(number, frame)

    signal.signal(signal.SIGTERM, on_top)
    chain.uninstall()
    assert signal.getsignal(signal.SIGTERM) is on_top
    assert send(log) == ["on top", "server SIGTERM"]
    chain.install()
    assert send(log) == ["group", "on top", "server SIGTERM"]
    chain.uninstall()
    assert signal.getsignal(signal.SIGTERM) is on_top


def test_next_server(log: list[str], server: Server) -> None:
    """When a second server replaces the first one's handlers, the chain runs before the new ones."""
    chain = new_chain(log, "group")
    chain.install()
    Server(log, "next").install()
    chain.uninstall()
    chain.install()
    assert send(log) == ["group", "next SIGTERM"]
    chain.uninstall()
    assert send(log) == ["next SIGTERM"]
