# The functions that SQL calls, and how tables of an earlier release get those of this one. Part of the schema.
#
# Rule 1: functions may gain arguments, and no release takes any away. So programs of an earlier release go on working,
#         and the version of the schema stays. A function is replaced, never overloaded: a call could mean both, and
#         GRANT ... ON FUNCTION publish would not know which.
# Rule 2: a function that is replaced keeps its owner, with whose rights it runs, and what was granted on it.
# Rule 3: there is no word after a colon, which SQLAlchemy would take for a parameter.
# Rule 4: they run with their owner's rights, and nothing that others have written may run inside of them. A type can
#         have a cast to JSON, a function of whoever owns the type. So rows are made JSON only for tables whose owner
#         has these rights already, because the owner of a table chooses its types.

from __future__ import annotations

from typing import Final

__all__ = ("FUNCTIONS", "IS_OLD", "UPDATE")

FUNCTIONS: Final = r"""
-- What SQL calls: an event with this data, when the transaction commits. ttl: seconds until it expires.
CREATE OR REPLACE FUNCTION {schema}.publish(
    hub text, topic text, data text, event text DEFAULT NULL, key text DEFAULT NULL, ttl double precision DEFAULT NULL)
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
    ELSIF ttl NOT BETWEEN 0.001 AND 1e10 THEN  -- NaN is more than any number
        RAISE 'ttl must be a number of seconds, from 0.001 to 1e+10, or NULL; got %', ttl;
    END IF;
    INSERT INTO outbox (hub, topic, payload, producer, number) VALUES (
        hub,
        replace(topic, chr(1), chr(1) || chr(2)),
        convert_to(
            coalesce(E'\x3aexpires ' ||
                round((extract(epoch FROM clock_timestamp())::float8 + ttl)::numeric, 6) || E'\n', '') ||
            coalesce('event: ' || event || E'\n', '') || 'data: ' ||
            replace(regexp_replace(data, E'\r\n?', E'\n', 'g'), E'\n', E'\ndata: ') || E'\n\n', 'UTF8'),
        sha256('\x00'::bytea || convert_to(key, 'UTF8')),
        CASE WHEN key IS NOT NULL THEN 0 END
    );
END $$;

-- A trigger for any table: its rows as JSON, to the topic <first argument after the hub>/<value of the named column>.
-- One more argument is the ttl.
CREATE OR REPLACE FUNCTION {schema}.publish_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    changed jsonb;
    named text;
    owner name;
BEGIN
    SELECT pg_get_userbyid(relowner) INTO owner FROM pg_class WHERE oid = TG_RELID;
    IF NOT pg_has_role(owner, current_user, 'USAGE') THEN
        RAISE 'publish_row() runs with the rights of %, and the owner of this table, %, does not have them',
            current_user, owner
            USING HINT = format('ALTER FUNCTION %1$I.publish_row() OWNER TO %2$I; '
                'GRANT EXECUTE ON FUNCTION %1$I.publish TO %2$I', current_schema(), owner);
    END IF;
    IF TG_OP = 'DELETE' THEN changed = to_jsonb(OLD); ELSE changed = to_jsonb(NEW); END IF;
    named = replace(replace(changed ->> TG_ARGV[2], '%', '%25'), '*', '%2A');
    PERFORM publish(TG_ARGV[0], TG_ARGV[1] || coalesce('/' || named, ''), changed::text, lower(TG_OP),
        ttl => TG_ARGV[3]::double precision);
    RETURN NULL;
END $$;

REVOKE ALL ON FUNCTION {schema}.publish_row(), {schema}.publish(text, text, text, text, text, double precision)
    FROM PUBLIC;
"""

IS_OLD: Final = "(proname = 'publish' AND oidvectortypes(proargtypes) = 'text, text, text, text, text')"
"""Of a row of pg_proc: whether it is the function that had no ttl."""

_UPDATE = r"""
DO $update$
DECLARE
    old record;
    granted text[];
BEGIN
    SELECT proowner INTO old FROM pg_proc WHERE pronamespace = '{schema}'::regnamespace AND {is_old};
    IF NOT FOUND THEN RETURN; END IF;
    SELECT array_agg(format('GRANT EXECUTE ON FUNCTION {schema}.%s TO %s%s',
        proname,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
    INTO granted FROM pg_proc, aclexplode(proacl)
    WHERE pronamespace = '{schema}'::regnamespace AND ({is_old} OR proname = 'publish_row') AND grantee <> proowner;
    DROP FUNCTION {schema}.publish(text, text, text, text, text);
    EXECUTE $functions${functions}$functions$;
    EXECUTE format('ALTER FUNCTION {schema}.publish(text, text, text, text, text, double precision) OWNER TO %I',
        pg_get_userbyid(old.proowner));
    FOR n IN 1 .. coalesce(cardinality(granted), 0) LOOP
        EXECUTE granted[n];
    END LOOP;
END $update$;
"""
UPDATE: Final = _UPDATE.replace("{functions}", FUNCTIONS).replace("{is_old}", IS_OLD)
