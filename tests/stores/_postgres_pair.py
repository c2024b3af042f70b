# A primary and a standby, which takes over when the primary crashes; another standby is made where the primary was.

from __future__ import annotations

import time

from ._postgres import PostgresReplica, PostgresServer, free_port, url_through

# The standby is made anew so often that a new walsender must not have to wait for the old one's time limit.
SETTINGS = ("wal_sender_timeout=5s", "wal_keep_size=48MB")


class PostgresPair:
    """What :class:`PostgresServer` is, of two machines.

    Args:
        programs: the folder of PostgreSQL's programs.
        settings: of both servers.
        places: a folder for each of them, for their files.
        is_synchronous: whether a commit waits until the standby has it.
    """

    def __init__(self, programs, *settings, places=(None, None), is_synchronous=True):
        self._settings = (*SETTINGS, *settings)
        self._primary = PostgresServer(programs, *self._settings, place=places[0])
        self.standby = None
        self.ports = (self._primary.port, free_port())
        self._places = dict(zip(self.ports, places, strict=True))
        self._is_synchronous = is_synchronous

    @property
    def port(self):
        """Where the primary is now."""
        return self._primary.port

    @property
    def place(self):
        """The folder in which the primary has its files, if one was given."""
        return self._places[self.port]

    @property
    def url(self):
        """Where the primary is, whichever it is."""
        return url_through(self.ports)

    def start(self):
        self._primary.start()
        if self.standby is None:
            if self._is_synchronous:
                self.sql("ALTER SYSTEM SET synchronous_standby_names = 'replica'")  # each standby is made with it
            self._make_standby()
            self.sql("SELECT pg_reload_conf()")
            self.wait_in_sync()

    def _make_standby(self):
        (port,) = {*self.ports} - {self.port}
        self.standby = PostgresReplica(self._primary, *self._settings, port=port, place=self._places[port])
        self.standby.start()

    def wait_in_sync(self):
        """Return once the standby has all that there is."""
        is_in_sync = "sync_state = 'sync' AND" if self._is_synchronous else ""
        until = time.monotonic() + 60
        while not self.sql(
            f"SELECT 1 FROM pg_stat_replication WHERE {is_in_sync} state = 'streaming' AND replay_lsn IS NOT NULL"
        ):
            assert time.monotonic() < until, "the standby doesn't catch up"
            time.sleep(0.02)

    def fail_over(self):
        """Promote only what is in sync, as those who watch over servers do."""
        self.wait_in_sync()
        self.lose_primary()
        self.make_standby()

    def lose_primary(self):
        """End the primary for good, whatever the standby has, and promote that one."""
        self._primary.remove()
        self._primary, self.standby = self.standby, None
        self._primary.promote()

    def make_standby(self):
        """Make the next standby, where the primary was that is gone."""
        self._make_standby()
        self.wait_in_sync()

    def sql(self, statement, *values):
        return self._primary.sql(statement, *values)

    def answers(self):
        return self._primary.answers()

    def has_ended(self):
        return self._primary.has_ended()

    def crash(self):
        self._primary.crash()

    def restart(self):
        self._primary.restart()

    def remove(self):
        self._primary.remove()
        if self.standby is not None:
            self.standby.remove()
