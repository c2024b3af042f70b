"""The appends of threads: what waits is committed together, and each thread hears of its own."""

from __future__ import annotations

import threading

import pytest

from sse_trio._errors import StoreUnavailableError
from sse_trio.publisher._commits import Commits
from sse_trio.stores import EventId


class Appender:
    """Notes the groups; each commit waits until it may go on, and fails as it is told to."""

    name = "a store"
    closes_for_forks = True

    def __init__(self):
        self.groups = []
        self.began = threading.Event()
        self.may_go_on = threading.Event()
        self.error = None
        self.closed = 0

    def append(self, group):
        self.groups.append([append.items for append in group])
        self.began.set()
        assert self.may_go_on.wait(10)
        if self.error is not None:
            raise self.error
        return [[EventId("e", 1)] for _ in group]

    @property
    def forbids_forks(self):
        return self.closed == 0

    def close(self):
        self.closed += 1


def start(work, count):
    """Run ``work`` in so many threads; return them and the list of what came of each."""
    outcomes = []

    def run(n):
        try:
            outcomes.append(work(n))
        except BaseException as exc:
            outcomes.append(exc)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads, outcomes


def commit_while_one_is_committed(appender, count):
    """Have a first commit wait, ``count`` more threads append, and return what came of all."""
    commits = Commits(appender)

    def append(n):
        return commits.append([("t", b"%d" % n)], None)

    first, of_first = start(append, 1)
    assert appender.began.wait(10)
    others, of_others = start(append, count)
    while len(commits._waiting) < count:
        threading.Event().wait(0.001)
    appender.may_go_on.set()
    for thread in [*first, *others]:
        thread.join(10)
    return of_first, of_others


def test_what_waits_is_committed_together():
    """Seven threads that come while an eighth waits for the disk are one commit."""
    appender = Appender()
    of_first, of_others = commit_while_one_is_committed(appender, 7)
    assert of_first + of_others == [[EventId("e", 1)]] * 8
    assert [len(group) for group in appender.groups] == [1, 7]


def test_each_thread_of_a_group_hears_of_its_failure():
    """If a commit fails, each thread gets an exception of its own, with the same cause."""
    appender = Appender()
    appender.error = StoreUnavailableError("a store", "the disk is full")
    of_first, of_others = commit_while_one_is_committed(appender, 3)
    errors = of_first + of_others
    assert [str(error) for error in errors] == ["a store is not available: the disk is full"] * 4
    assert len({id(error) for error in errors}) == 4


def test_an_interrupted_thread_leaves_no_other_waiting():
    """Ctrl+C in the thread that commits is raised there; the others of its group hear that the outcome is unknown."""
    appender = Appender()
    appender.error = KeyboardInterrupt()
    of_first, of_others = commit_while_one_is_committed(appender, 3)
    errors = of_first + of_others
    assert len([error for error in errors if isinstance(error, KeyboardInterrupt)]) == 2  # one for each group
    assert [str(error) for error in errors if not isinstance(error, KeyboardInterrupt)] == [
        "a store is not available: the thread that was committing was interrupted"
    ] * 2


def test_a_signal_handler_does_not_wait_for_what_it_has_interrupted():
    """A publish from a handler that has interrupted a publish is refused, and the one that goes on is answered."""
    refused = []

    class Interrupted(Appender):
        def append(self, group):
            with pytest.raises(RuntimeError, match="flag in the handler") as caught:
                commits.append([("t", b"from the handler")], None)
            refused.append(caught)
            return super().append(group)

    appender = Interrupted()
    appender.may_go_on.set()
    commits = Commits(appender)
    assert commits.append([("t", b"1")], None) == commits.append([("t", b"2")], None) == [EventId("e", 1)]
    assert (len(refused), len(appender.groups)) == (2, 2)


def test_a_handler_that_comes_before_the_commit_commits():
    """A handler that runs when its thread has the connection, and has not begun yet, commits what both have."""
    appender = Appender()
    appender.may_go_on.set()
    commits = Commits(appender)
    with commits._lock:
        assert commits.append([("t", b"from the handler")], None) == [EventId("e", 1)]
    assert commits.append([("t", b"1")], None) == [EventId("e", 1)]


def test_a_fork_waits_for_a_commit(monkeypatch):
    """A fork waits for a commit that is under way, but not for ever; after the fork threads publish again."""
    monkeypatch.setattr("sse_trio.publisher._commits._FORK_WAITS", 0.01)
    appender = Appender()
    commits = Commits(appender)
    threads, _ = start(lambda n: commits.append([("t", b"")], None), 1)
    assert appender.began.wait(10)
    assert not commits.pause()
    assert appender.closed == 0
    appender.may_go_on.set()
    threads[0].join(10)
    assert commits.pause()
    assert appender.closed == 1
    threads, outcomes = start(lambda n: commits.append([("t", b"")], None), 1)
    assert outcomes == []
    commits.resume()
    threads[0].join(10)
    assert outcomes == [[EventId("e", 1)]]
    appender.closes_for_forks = False
    assert not commits.pause(), "there is no need"


def test_a_signal_handler_that_forks_does_not_wait_for_the_commit_that_it_interrupts():
    """A fork in the thread that is committing can't wait for the commit, and doesn't."""
    appender = Appender()
    commits = Commits(appender)
    pauses = []

    def append(group):
        pauses.append(commits.pause())  # as a signal handler would, in the midst of it
        return [[EventId("e", 1)] for _ in group]

    appender.append = append
    commits.append([("t", b"")], None)
    assert pauses == [False]


def test_a_bad_item_is_its_caller_s_own_error():
    """What can't be appended never meets the appends of other threads."""
    commits = Commits(Appender())
    with pytest.raises(TypeError):
        commits.append([("t", "text")], None)
    assert commits._waiting == []
