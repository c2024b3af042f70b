# Tables as releases made them whose functions had no ttl, and what opening them with this release does.

from __future__ import annotations

import anyio
import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
from sse_trio.stores.postgres import PostgresStore, additions, migration  # noqa: E402 -- it needs psycopg
from sse_trio.testing._store_locations import ALL  # noqa: E402 -- likewise

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]

OLD = r"""
DROP FUNCTION {schema}.publish;

-- What SQL calls: an event with this data, when the transaction commits.
CREATE FUNCTION {schema}.publish(hub text, topic text, data text, event text DEFAULT NULL, key text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    IF hub IS NULL OR data IS NULL THEN
        RAISE 'hub and data must not be null';
    ELSIF coalesce(topic, '') = '' OR topic LIKE '%*%' OR length(topic) > 1024 THEN
        RAISE 'a topic must have 1 to 1024 characters and no *; got %', topic;
    ELSIF topic LIKE '$sse\_trio/%' THEN
        RAISE 'a topic must not begin with $sse_trio/; got %', topic;
    ELSIF event ~ E'[\r\n]' THEN
        RAISE 'event must be one line; got %', event;
    ELSIF key = '' THEN
        RAISE 'key must not be empty; leave it out, or give each event its own';
    END IF;
    INSERT INTO outbox (hub, topic, payload, producer, number) VALUES (
        hub,
        replace(topic, chr(1), chr(1) || chr(2)),
        convert_to(
            coalesce('event: ' || event || E'\n', '') || 'data: ' ||
            replace(regexp_replace(data, E'\r\n?', E'\n', 'g'), E'\n', E'\ndata: ') || E'\n\n', 'UTF8'),
        sha256('\x00'::bytea || convert_to(key, 'UTF8')),
        CASE WHEN key IS NOT NULL THEN 0 END
    );
END $$;

-- A trigger for any table: its rows as JSON, to the topic <first argument after the hub>/<value of the named column>.
CREATE OR REPLACE FUNCTION {schema}.publish_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    changed jsonb;
    named text;
BEGIN
    IF TG_OP = 'DELETE' THEN changed = to_jsonb(OLD); ELSE changed = to_jsonb(NEW); END IF;
    named = replace(replace(changed ->> TG_ARGV[2], '%', '%25'), '*', '%2A');
    PERFORM publish(TG_ARGV[0], TG_ARGV[1] || coalesce('/' || named, ''), changed::text, lower(TG_OP));
    RETURN NULL;
END $$;

REVOKE ALL ON FUNCTION {schema}.publish_row(), {schema}.publish(text, text, text, text, text) FROM PUBLIC;
"""


class OldTables:
    """Tables of an earlier release, in a schema of their own, with their owner."""

    def __init__(self, server, schema, owner):
        self.server, self.schema, self.owner = server, schema, owner
        server.sql(f"CREATE ROLE {owner} LOGIN")
        server.sql(f"GRANT CREATE ON DATABASE postgres TO {owner}")
        self.sql(migration(schema))
        self.sql(OLD.replace("{schema}", schema))

    def sql(self, statement, *values, user=None):
        return self.server.sql(statement, *values, user=user or self.owner)

    def store(self, user=None, **options):
        return PostgresStore(self.server.url_of(user or self.owner), schema=self.schema, **options)

    def publish(self, data, *more, user=None):
        arguments = ", ".join(["'sse_trio'", "'a'", f"'{data}'", *more])
        self.sql(f"SELECT {self.schema}.publish({arguments})", user=user)

    def has_ttl(self):
        of_publish = "proname = 'publish' AND pronamespace = %s::regnamespace"
        query = f"SELECT 'ttl' = ANY (proargnames) FROM pg_proc WHERE {of_publish}"
        ((has_ttl,),) = self.sql(query, self.schema)
        return has_ttl

    def make_role(self, which, tables=False):
        role = f"{which}_{self.schema}"
        self.server.sql(f"CREATE ROLE {role} LOGIN")
        self.sql(f"GRANT USAGE ON SCHEMA {self.schema} TO {role}")
        if tables:
            self.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {self.schema} TO {role}")
        return role


@pytest.fixture
def old(shared_postgres, name):
    return OldTables(shared_postgres, f"o{name}", f"owner_{name}")


async def data_in(store):
    await store.append([])  # moves what waits
    return [event.event.data for event in (await store.read(ALL, None)).events]


async def test_a_store_that_may_brings_the_functions_up_to_date(old):
    """When their owner opens them, old tables take a ttl; calls and statements of before go on meaning the same."""
    publisher = old.make_role("publisher")
    old.sql(f"GRANT EXECUTE ON FUNCTION {old.schema}.publish, {old.schema}.publish_row TO {publisher}")
    old.sql(f"CREATE TABLE {old.schema}.orders (id int)")
    old.sql(
        f"CREATE TRIGGER publish AFTER INSERT ON {old.schema}.orders "
        f"FOR EACH ROW EXECUTE FUNCTION {old.schema}.publish_row('sse_trio', 'orders', 'id')"
    )
    with psycopg.connect(old.server.url_of(publisher), autocommit=True) as session:
        session.execute(f"PREPARE publish AS SELECT {old.schema}.publish('sse_trio', 'a', $1::text)")
        session.execute("EXECUTE publish ('before')")
        with pytest.raises(psycopg.errors.UndefinedFunction):
            old.publish("x", "ttl => 60")
        now = [0.0]
        async with old.store(clock=lambda: now[0]) as store:
            assert old.has_ttl()
            session.execute("EXECUTE publish ('prepared')")
            old.publish("three", user=publisher)
            old.publish("five", "'paid'", "'key'", user=publisher)
            old.publish("short", "ttl => 60", user=publisher)
            old.sql(f"INSERT INTO {old.schema}.orders VALUES (7)")
            kept = ["before", "prepared", "three", "five", '{"id": 7}']
            assert await data_in(store) == [*kept[:4], "short", kept[4]]
            now[0] = 1e10
            assert await data_in(store) == kept
        async with old.store():  # nothing is missing now
            assert old.has_ttl()


async def test_what_was_granted_stays_granted(old):
    """Owner and privileges are those of before, whoever brings the functions up to date."""
    one, other = old.make_role("one"), old.make_role("other")
    old.sql(f"GRANT EXECUTE ON FUNCTION {old.schema}.publish TO {one} WITH GRANT OPTION")
    old.sql(f"GRANT EXECUTE ON FUNCTION {old.schema}.publish_row TO PUBLIC")
    old.sql(f"GRANT EXECUTE ON FUNCTION {old.schema}.publish TO {other}", user=one)
    query = (
        "SELECT proname, pg_get_userbyid(proowner), coalesce(nullif(grantee, 0)::regrole::text, 'all'), is_grantable "
        "FROM pg_proc, aclexplode(proacl) WHERE pronamespace = %s::regnamespace ORDER BY 1, 2, 3, 4"
    )
    before = old.sql(query, old.schema)
    async with old.store("postgres"):  # a superuser
        assert old.has_ttl()
    assert old.sql(query, old.schema) == before
    assert ("publish", old.owner, one, True) in before
    assert ("publish_row", old.owner, "all", False) in before
    old.publish("x", "ttl => 60", user=other)


async def test_many_that_start_at_once_do_it_once(old, caplog):
    """Processes that find the functions of an earlier release at the same time all open, and one replaces them."""

    async def open_and_append(n):
        async with old.store(name=f"hub {n}") as store:
            await store.append([("a", b"data: x\n\n")])

    async with anyio.create_task_group() as group:
        for n in range(5):
            group.start_soon(open_and_append, n)
    assert old.has_ttl()
    assert not caplog.records


async def test_who_may_not_leaves_them_alone(old, caplog):
    """A role that does not own the functions opens the store without a word, and so does their owner that must not."""
    server = old.make_role("server", tables=True)
    for options in ({"user": server}, {"migrate": False}):
        async with old.store(**options) as store:
            old.publish("x")
            assert "x" in await data_in(store)
            assert not old.has_ttl()
    assert not caplog.records


async def test_what_stands_in_the_way_is_a_warning(old, caplog):
    """If a function can't be replaced, because the user's own depends on it, the store opens, and says what to run."""
    mine = (
        f"CREATE VIEW {old.schema}.mine AS SELECT {old.schema}.publish('sse_trio', 'a', 'by a view') IS NULL AS is_null"
    )
    old.sql(mine)
    async with old.store() as store:
        old.sql(f"SELECT * FROM {old.schema}.mine")
        assert await data_in(store) == ["by a view"]
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"the SQL function {old.schema}.publish has no ttl yet: cannot drop function")
    assert message.endswith("run what sse_trio.stores.postgres.additions() returns")
    assert not old.has_ttl()


async def test_a_tool_of_ones_own(old):
    """additions() does the same as SQL, again and again, and on tables that this release has made."""
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    new = f"{old.schema}_new"
    old.sql(migration(new))
    engine = sqlalchemy.create_engine(old.server.url_of(old.owner).replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:  # as Alembic's op.execute() does
        for schema in (old.schema, old.schema, new):
            connection.execute(sqlalchemy.text(additions(schema)))
    engine.dispose()
    assert old.has_ttl()
    text = "SELECT prosrc FROM pg_proc WHERE pronamespace = %s::regnamespace ORDER BY proname"
    assert old.sql(text, new) == old.sql(text, old.schema)
