-- Small documents of the components above the store: see `Record` in the contract.

CREATE TABLE edow.records (
    version bigint NOT NULL,
    at bigint NOT NULL,
    expires_at bigint,
    kind text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX records_expiring ON edow.records (expires_at) WHERE expires_at IS NOT NULL;

-- Write or delete (a NULL body) records that have the versions told: NULL: whichever; 0: there must be none. They come
-- in the order of their keys, so nobody waits in a circle.
CREATE FUNCTION edow.put_records(
    _at bigint, _kinds text[], _keys text[], _bodies bytea[], _versions bigint[], _ends bigint[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    standing bigint;
BEGIN
    FOR i IN 1 .. cardinality(_kinds) LOOP
        IF _versions[i] = 0 AND _bodies[i] IS NOT NULL THEN
            INSERT INTO edow.records (version, at, expires_at, kind, key, body)
            VALUES (_at, _at, _ends[i], _kinds[i], _keys[i], _bodies[i]) ON CONFLICT (kind, key) DO NOTHING;
            CONTINUE WHEN FOUND;
            RAISE EXCEPTION 'a record was changed' USING ERRCODE = 'ED005', DETAIL = i::text;
        END IF;
        SELECT r.version INTO standing FROM edow.records AS r WHERE r.kind = _kinds[i] AND r.key = _keys[i] FOR UPDATE;
        IF coalesce(standing, 0) <> coalesce(_versions[i], standing, 0) THEN
            RAISE EXCEPTION 'a record was changed' USING ERRCODE = 'ED005', DETAIL = i::text;
        END IF;
        IF _bodies[i] IS NULL THEN
            DELETE FROM edow.records AS r WHERE r.kind = _kinds[i] AND r.key = _keys[i];
        ELSE
            INSERT INTO edow.records AS r (version, at, expires_at, kind, key, body)
            VALUES (_at, _at, _ends[i], _kinds[i], _keys[i], _bodies[i])
            ON CONFLICT (kind, key) DO UPDATE SET
                version = greatest(r.version + 1, excluded.version), at = excluded.at,
                expires_at = excluded.expires_at, body = excluded.body;
        END IF;
    END LOOP;
END $$;
