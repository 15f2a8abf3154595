-- Renewing a lease waits for no commit, however long that takes: a lease must not run out because the database is slow.
--
-- A commit locks its leases FOR KEY SHARE, which lets their owner change the rows and keeps others from taking them,
-- for which they are locked FOR UPDATE. What each commit writes is therefore in rows of its own.

CREATE TABLE edow.stamps (
    shard integer PRIMARY KEY,
    stamp bigint NOT NULL -- of the newest commit of whoever holds the shard
) WITH (fillfactor = 20);
ALTER TABLE edow.stamps SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);
INSERT INTO edow.stamps (shard, stamp) SELECT shard, stamp FROM edow.leases;
ALTER TABLE edow.leases DROP COLUMN stamp;

-- Renew, drop what is too much, take what is free and has no commit under way; the leases of all owners then. Renewing
-- keeps the epoch, also of a lease that ran out unnoticed; taking raises it.
CREATE OR REPLACE FUNCTION edow.hold(_owner text, _wanted integer, _now bigint, _until bigint)
RETURNS SETOF edow.leases LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    mine integer;
BEGIN
    PERFORM edow.lax();
    PERFORM 1 FROM edow.leases WHERE owner = _owner ORDER BY shard FOR NO KEY UPDATE;
    UPDATE edow.leases AS l SET
        owner = CASE WHEN m.place <= _wanted THEN _owner ELSE '' END,
        until = CASE WHEN m.place <= _wanted THEN _until ELSE 0 END
    FROM (
        SELECT shard, row_number() OVER (ORDER BY shard) AS place FROM edow.leases WHERE owner = _owner
    ) AS m
    WHERE l.shard = m.shard AND l.owner = _owner;
    GET DIAGNOSTICS mine = ROW_COUNT;
    UPDATE edow.leases SET owner = _owner, until = _until, epoch = epoch + 1
    WHERE shard = ANY (ARRAY(
        SELECT shard FROM edow.leases
        WHERE owner <> _owner AND (owner = '' OR until <= _now)
        ORDER BY shard LIMIT greatest(_wanted - mine, 0) FOR UPDATE SKIP LOCKED
    ));
    RETURN QUERY SELECT * FROM edow.leases WHERE owner <> '' ORDER BY shard;
END $$;

CREATE OR REPLACE FUNCTION edow.release(_owner text) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM edow.lax();
    PERFORM 1 FROM edow.leases WHERE owner = _owner ORDER BY shard FOR NO KEY UPDATE;
    UPDATE edow.leases SET owner = '', until = 0 WHERE owner = _owner;
    DELETE FROM edow.members WHERE owner = _owner;
END $$;

-- Nothing may be committed by whoever does not own all of these shards under these epochs, nor twice. The leases are
-- locked until the end of the transaction, so that none can be taken while it is under way.
CREATE OR REPLACE FUNCTION edow.fence(_shards integer[], _epochs bigint[], _stamp bigint) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    lost integer[];
BEGIN
    INSERT INTO edow.stamps AS s (shard, stamp) VALUES (_shards[1], _stamp)
    ON CONFLICT (shard) DO UPDATE SET stamp = excluded.stamp WHERE s.stamp <> excluded.stamp;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this commit was applied before' USING ERRCODE = 'ED003';
    END IF;
    SELECT array_agg(x.shard ORDER BY x.shard) INTO lost
    FROM unnest(_shards, _epochs) AS x (shard, epoch)
    LEFT JOIN (
        SELECT l.shard, l.epoch FROM edow.leases AS l WHERE l.shard = ANY (_shards) ORDER BY l.shard FOR KEY SHARE
    ) AS held ON held.shard = x.shard AND held.epoch = x.epoch
    WHERE held.shard IS NULL;
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION 'leases were lost' USING ERRCODE = 'ED001', DETAIL = array_to_string(lost, ',');
    END IF;
END $$;
