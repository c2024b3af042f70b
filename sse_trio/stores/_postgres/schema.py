# The schema, as SQL that can be run by hand, by psql, by Alembic or by Django.
#
# Rule 1: it is versioned. A version that was released is never edited; a later one is another script that follows it.
#         Only the functions that SQL calls may gain arguments within a version: they are in functions.py.
# Rule 2: ids are counted up in the hub's row, which whoever appends locks until the commit. So the order of the ids is
#         the order of the commits, and no id becomes visible after a later one. A sequence could not promise that.
# Rule 3: what a user publishes in a transaction of his own goes to the outbox, which locks nothing. The store moves it
#         to the log. `place` is given when the transaction commits, so what began early and ends late is late; what
#         has seen another transaction's commit comes after it.
# Rule 4: other roles publish by functions alone, which run as the owner of the schema. So they need no table.
# Rule 5: no index holds a whole topic, because an entry of an index is shorter than a topic may be: its first 600
#         characters, and the rows say the rest. Whoever changes `topics` and `holds` has locked the hub, so that
#         names are unique although no index says so.
# Rule 6: there is no word after a colon, which SQLAlchemy would take for a parameter.

from __future__ import annotations

from .expiry import DUE, IS_MARKED
from .functions import FUNCTIONS, UPDATE
from .names import check_schema

__all__ = ("VERSION", "additions", "migration")

VERSION = 1

_SQL = r"""
CREATE SCHEMA IF NOT EXISTS {schema};

CREATE TABLE {schema}.version (version integer NOT NULL);
INSERT INTO {schema}.version VALUES (1);

CREATE TABLE {schema}.hubs (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    epoch text NOT NULL,                            -- made with the row, so that ids of another history don't fit
    sequence bigint NOT NULL DEFAULT 0,             -- the newest id
    latest double precision NOT NULL DEFAULT 0,     -- its time
    events bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    trimmed_to bigint NOT NULL DEFAULT 0,           -- the newest id that is gone, of any topic
    floor bigint NOT NULL DEFAULT 0,                -- the same, of the topics without a row
    cut_upto bigint[] NOT NULL DEFAULT '{}',        -- where a clock was wrong
    cut_time double precision[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 10);                           -- the row changes with each commit, and stays in its page

CREATE TABLE {schema}.events (
    hub integer NOT NULL,
    id bigint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    time double precision NOT NULL,                 -- seconds since 1970
    payload bytea NOT NULL,
    PRIMARY KEY (hub, id)
);
CREATE INDEX events_of_topic ON {schema}.events (hub, left(topic, 600), id);
CREATE INDEX events_that_expire ON {schema}.events (hub, ({due})) WHERE {is_marked};

CREATE TABLE {schema}.topics (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hub integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    events bigint NOT NULL,
    bytes bigint NOT NULL,
    trimmed_to bigint NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX topics_by_name ON {schema}.topics (hub, left(name, 600));
CREATE INDEX topics_without_events ON {schema}.topics (hub, trimmed_to) WHERE events = 0;

CREATE TABLE {schema}.keys (
    hub integer NOT NULL,
    producer bytea NOT NULL,                        -- SHA-256 of its name
    number bigint NOT NULL,
    first bigint NOT NULL,                          -- the ids that the append was given
    count bigint NOT NULL,
    time double precision NOT NULL,
    PRIMARY KEY (hub, producer, number)
);
CREATE INDEX keys_by_time ON {schema}.keys (hub, time);

CREATE TABLE {schema}.writers (
    hub integer NOT NULL,
    writer bytea NOT NULL,                          -- a process that appends
    number bigint NOT NULL,                         -- its latest group, and what came of it
    firsts bigint[] NOT NULL,
    counts bigint[] NOT NULL,
    time double precision NOT NULL,
    PRIMARY KEY (hub, writer)
) WITH (fillfactor = 50);

CREATE TABLE {schema}.holds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hub integer NOT NULL,
    topic text COLLATE "C" NOT NULL,
    token text NOT NULL,
    value bytea NOT NULL,
    due double precision NOT NULL,                  -- seconds since 1970, by the server's clock
    upto bigint NOT NULL,                           -- the newest id when the value was set
    moved_to bigint NOT NULL DEFAULT 0              -- the newest id that is in kept_events
);
CREATE INDEX holds_by_topic ON {schema}.holds (hub, left(topic, 600));

CREATE TABLE {schema}.kept_events (                 -- those of held topics that the limits of the hub have reached
    hub integer NOT NULL,
    id bigint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (hub, id)
);
CREATE INDEX kept_events_of_topic ON {schema}.kept_events (hub, left(topic, 600), id);

CREATE SEQUENCE {schema}.outbox_places;
CREATE TABLE {schema}.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hub text NOT NULL,
    topic text NOT NULL,
    payload bytea NOT NULL,
    producer bytea,
    number bigint,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    place bigint                                    -- given at the commit
);
CREATE INDEX outbox_of_hub ON {schema}.outbox (hub);

CREATE FUNCTION {schema}.place_in_outbox() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    UPDATE outbox SET place = nextval('outbox_places') WHERE id = NEW.id;
    PERFORM pg_notify('sse_trio_' || left(encode(sha256(convert_to(
        TG_TABLE_SCHEMA || '/' || NEW.hub, 'UTF8')), 'hex'), 32), '');
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER place_in_outbox AFTER INSERT ON {schema}.outbox
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {schema}.place_in_outbox();

-- What PostgresStore.publish_in() calls: an event that is packed already.
CREATE FUNCTION {schema}.publish_packed(hub text, topic text, payload bytea, producer bytea, number bigint)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    INSERT INTO outbox (hub, topic, payload, producer, number) VALUES ($1, $2, $3, $4, $5)
$$;

REVOKE ALL ON FUNCTION {schema}.place_in_outbox(), {schema}.publish_packed(text, text, bytea, bytea, bigint)
    FROM PUBLIC;

"""


def migration(schema: str = "sse_trio") -> str:
    """Return the SQL that makes the tables and functions of :class:`PostgresStore`, version 1, in this schema.

    For your own tool: ``op.execute(migration())`` in Alembic, ``migrations.RunSQL(migration())`` in Django. Whoever
    runs it owns the schema. It makes everything or nothing if it is run in one transaction.
    """
    sql = (_SQL + FUNCTIONS).strip().replace("{due}", DUE).replace("{is_marked}", IS_MARKED)
    return sql.replace("{schema}", check_schema(schema)) + "\n"


def additions(schema: str = "sse_trio") -> str:
    """Return the SQL that gives tables of an earlier release the functions of this one: ``publish()`` with a ``ttl``.

    For your own tool; without ``migrate=False`` a store runs it where its role owns the functions. Where nothing is
    missing it does nothing. What you have granted stays granted.
    """
    return UPDATE.strip().replace("{schema}", check_schema(schema)) + "\n"
