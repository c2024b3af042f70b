# How fast PostgreSQL itself inserts, by its own pgbench, beside how fast a store takes events: in turns, on one server.
#
#   python benchmarks/postgres_pgbench.py --rounds 3 --seconds 5
#
# pgbench inserts rows of the same size into a table with the same indexes, one a transaction, over one connection and
# over forty. The store has a hundred publishers and a follower, as in stores.py. The server waits for its disk at each
# commit (fsync and synchronous_commit are on). Prints the median of the rounds, and all of them.

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
from postgres_transactions import load_servers

TABLE = """
CREATE TABLE rows (id bigserial PRIMARY KEY, topic text NOT NULL, time float8 NOT NULL, payload bytea NOT NULL);
CREATE INDEX ON rows (left(topic, 600), id);
"""
# The payload is that of stores.py.
INSERT = """
\\set n random(0, 9)
INSERT INTO rows (topic, time, payload)
VALUES ('topic/' || :n, extract(epoch FROM now()), convert_to('data: ' || repeat('x', 200) || E'\\n\\n', 'UTF8'));
"""


def pgbench(server, script, clients, seconds):
    """Return pgbench's transactions per second."""
    command = [
        server.programs / "pgbench", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-n", "-M",
        "prepared", "-f", script, "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(seconds), "postgres",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(float(re.search(r"tps = ([\d.]+)", done.stdout)[1]))


def store(server, loop, seconds):
    """Return the store's events per second."""
    program = Path(__file__).parent / "stores.py"
    options = ["--publishers", "100", "--follow", "--loop", loop, "--seconds", str(seconds), "--url", server.url]
    done = subprocess.run([sys.executable, program, "postgres", *options], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["events_per_second"]


def measure(server, args, script):
    """Take turns, so that whatever else the machine does hits all alike."""
    works = {
        "pgbench, 1 connection": lambda: pgbench(server, script, 1, args.seconds),
        "pgbench, 40 connections": lambda: pgbench(server, script, 40, args.seconds),
        "the store, trio": lambda: store(server, "trio", args.seconds),
        "the store, asyncio": lambda: store(server, "asyncio", args.seconds),
    }
    figures = {name: [] for name in works}
    for _ in range(args.rounds):
        for name, work in works.items():
            figures[name].append(work())
    return figures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    args = parser.parse_args()
    servers = load_servers()
    server = servers.PostgresServer(servers.find_postgres(), "fsync=on", "shared_buffers=128MB")
    try:
        server.start()
        with psycopg.connect(server.url) as connection:
            connection.execute(TABLE)
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(INSERT)
            script.flush()
            figures = measure(server, args, script.name)
    finally:
        server.remove()
    print("a second, median of the rounds:")
    for name, values in figures.items():
        print(f"{name}: {statistics.median(values):,.0f} {sorted(values)}")


if __name__ == "__main__":
    main()
