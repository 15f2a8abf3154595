-- What a store does many times a second, as functions: whatever a batch holds is one statement, one transaction and one
-- round trip, and its plans are kept by the server, also behind a pooler.
--
-- Plans are made once and used for batches of any size on tables of any size, so they must go through the indexes; what
-- would only be quick on small tables is forbidden to them.
--
-- Rows are locked in the order leases, executions (by id), new executions (by id); so nobody waits in a circle.

-- JSON text in which jsonb finds nothing that it cannot keep. A zero character is all there is of that kind.
CREATE FUNCTION edow.searchable(_json text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN position('\u0000' IN _json) = 0 THEN _json::jsonb
        ELSE regexp_replace(_json, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')::jsonb
    END
$$;

-- clients

-- Which of these executions exist, and in what state: [[id, run, status, shard, run], ...].
CREATE FUNCTION edow.known(_ids text[]) RETURNS text LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    RETURN (
        SELECT json_agg(json_build_array(e.id, e.run, e.status, e.shard, e.run)) FROM edow.executions AS e
        WHERE e.id = ANY (_ids)
    );
END $$;

-- Store new executions, each with its first segment, its input and the command that wakes its shard's owner (unless
-- those are NULL: then they come by other functions). Ids that are taken are returned, with the state of what has
-- them, as by `known`; or, if `_strict`, nothing at all is stored. Where `_told` is given, that execution's inbox gets
-- `_told_commands` if the id is taken.
CREATE FUNCTION edow.start(
    _strict boolean, _at bigint, _ids text[], _names text[], _workflows text[], _shards integer[], _runs integer[],
    _statuses text[], _starts bigint[], _wakes bigint[], _ends bigint[], _lengths integer[], _correlations text[],
    _traces text[], _results bytea[], _failures bytea[], _parents bytea[], _progresses bytea[], _attributes text[],
    _inputs bytea[], _segments bytea[], _commands bytea[], _told text[], _told_shards integer[], _told_commands bytea[]
) RETURNS text LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    fresh text[];
    everything boolean;
BEGIN
    WITH stored AS (
        INSERT INTO edow.executions (
            started_at, wake_at, ended_at, shard, run, events, id, workflow, status, correlation, trace, name, result,
            failure, parent, progress, attributes
        )
        SELECT
            x.started_at, x.wake_at, x.ended_at, x.shard, x.run, x.events, x.id, x.workflow, x.status, x.correlation,
            x.trace, x.name, x.result, x.failure, x.parent, x.progress, x.attributes
        FROM unnest(
            _starts, _wakes, _ends, _shards, _runs, _lengths, _ids, _workflows, _statuses, _correlations, _traces,
            _names, _results, _failures, _parents, _progresses, _attributes
        ) AS x (
            started_at, wake_at, ended_at, shard, run, events, id, workflow, status, correlation, trace, name, result,
            failure, parent, progress, attributes
        )
        ORDER BY x.id
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    )
    SELECT coalesce(array_agg(id), '{}') INTO fresh FROM stored;
    everything := cardinality(fresh) = cardinality(_ids);
    IF _strict AND NOT everything THEN
        RAISE EXCEPTION 'an id was taken meanwhile' USING ERRCODE = 'ED004';
    END IF;
    IF _commands IS NOT NULL THEN
        INSERT INTO edow.segments (execution, run, seq, count, body)
        SELECT x.id, x.run, 0, x.events, x.body FROM unnest(_ids, _runs, _lengths, _segments) AS x (id, run, events, body)
        WHERE everything OR x.id IN (SELECT unnest(fresh));
        INSERT INTO edow.segments (execution, run, seq, count, body)
        SELECT x.id, x.run, -1, 0, x.body FROM unnest(_ids, _runs, _inputs) AS x (id, run, body)
        WHERE everything OR x.id IN (SELECT unnest(fresh));
        INSERT INTO edow.inbox (at, shard, execution, command)
        SELECT _at, x.shard, coalesce(x.name, x.id), x.command
        FROM unnest(_shards, _ids, _names, _commands) AS x (shard, id, name, command)
        WHERE everything OR x.id IN (SELECT unnest(fresh));
    END IF;
    IF everything THEN
        RETURN NULL;
    END IF;
    INSERT INTO edow.inbox (at, shard, execution, command)
    SELECT _at, x.shard, x.told, x.command FROM unnest(_told_shards, _ids, _told, _told_commands) AS x (shard, id, told, command)
    WHERE x.told IS NOT NULL AND x.id NOT IN (SELECT unnest(fresh));
    RETURN edow.known(ARRAY(SELECT x FROM unnest(_ids) AS x WHERE x NOT IN (SELECT unnest(fresh))));
END $$;

-- Store one new execution, and wake its shard's owner when the transaction under way commits, which may be anybody's.
-- `_hash` is that of the id, by which it has its shard. If the id is taken that is told, as by `known`.
CREATE FUNCTION edow.start_in(
    _id text, _hash bigint, _workflow text, _input text, _segment text, _command text, _correlation text, _trace text,
    _at bigint, _wake_at bigint, _channel text
) RETURNS text LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    shard integer := _hash % (SELECT value FROM edow.meta WHERE name = 'shards');
    taken text := edow.start(
        false, _at, ARRAY[_id], ARRAY[NULL::text], ARRAY[_workflow], ARRAY[shard], ARRAY[1], ARRAY['running'],
        ARRAY[_at], ARRAY[_wake_at], ARRAY[NULL::bigint], ARRAY[1], ARRAY[_correlation], ARRAY[_trace],
        ARRAY[NULL::bytea], ARRAY[NULL::bytea], ARRAY[NULL::bytea], ARRAY[NULL::bytea], ARRAY[NULL::text],
        ARRAY[convert_to(_input, 'UTF8')], ARRAY[convert_to(_segment, 'UTF8')], ARRAY[convert_to(_command, 'UTF8')],
        NULL, NULL, NULL
    );
BEGIN
    IF taken IS NULL THEN
        PERFORM pg_notify(_channel, '');
    END IF;
    RETURN taken;
END $$;

-- New runs in the place of those that executions are in now, whatever state that is.
CREATE FUNCTION edow.replace(
    _ids text[], _old_runs integer[], _workflows text[], _shards integer[], _runs integer[], _statuses text[],
    _starts bigint[], _wakes bigint[], _ends bigint[], _lengths integer[], _correlations text[], _traces text[],
    _results bytea[], _failures bytea[], _parents bytea[], _progresses bytea[], _attributes text[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    replaced integer;
BEGIN
    PERFORM 1 FROM edow.executions AS e WHERE e.id = ANY (_ids) ORDER BY e.id FOR UPDATE;
    UPDATE edow.executions AS e SET
        workflow = x.workflow, shard = x.shard, run = x.run, status = x.status, started_at = x.started_at,
        wake_at = x.wake_at, ended_at = x.ended_at, events = x.events, correlation = x.correlation, trace = x.trace,
        result = x.result, failure = x.failure, parent = x.parent, progress = x.progress, attributes = x.attributes
    FROM unnest(
        _ids, _old_runs, _workflows, _shards, _runs, _statuses, _starts, _wakes, _ends, _lengths, _correlations,
        _traces, _results, _failures, _parents, _progresses, _attributes
    ) AS x (
        id, old_run, workflow, shard, run, status, started_at, wake_at, ended_at, events, correlation, trace, result,
        failure, parent, progress, attributes
    )
    WHERE e.id = x.id AND e.run = x.old_run;
    GET DIAGNOSTICS replaced = ROW_COUNT;
    IF replaced < cardinality(_ids) THEN
        RAISE EXCEPTION 'an execution was replaced or purged meanwhile' USING ERRCODE = 'ED004';
    END IF;
    UPDATE edow.dead_letters SET state = 'discarded', reason = 'the execution was replaced by a new run'
    WHERE state = 'parked' AND execution = ANY (_ids);
END $$;

CREATE FUNCTION edow.append(_executions text[], _runs integer[], _seqs integer[], _counts integer[], _bodies bytea[])
RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    INSERT INTO edow.segments (execution, run, seq, count, body)
    SELECT * FROM unnest(_executions, _runs, _seqs, _counts, _bodies);
END $$;

CREATE FUNCTION edow.command(_at bigint, _shards integer[], _executions text[], _commands bytea[])
RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    INSERT INTO edow.inbox (at, shard, execution, command)
    SELECT _at, * FROM unnest(_shards, _executions, _commands);
END $$;

-- who owns what

-- Renew, drop what is too much, take what is free; the leases of all owners then. Renewing keeps the epoch, also of a
-- lease that ran out unnoticed; taking raises it.
CREATE FUNCTION edow.hold(_owner text, _wanted integer, _now bigint, _until bigint)
RETURNS SETOF edow.leases LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM edow.lax();
    PERFORM 1 FROM edow.leases ORDER BY shard FOR UPDATE;
    WITH standing AS (
        SELECT
            shard,
            owner = _owner AS mine,
            owner <> _owner AND (owner = '' OR until <= _now) AS free
        FROM edow.leases
    ), ranked AS (
        SELECT
            shard, mine, free,
            count(*) FILTER (WHERE mine) OVER (ORDER BY shard) AS mine_before,
            count(*) FILTER (WHERE free) OVER (ORDER BY shard) AS free_before,
            count(*) FILTER (WHERE mine) OVER () AS all_mine
        FROM standing
    ), decided AS (
        SELECT
            shard, mine,
            mine AND mine_before <= _wanted AS kept,
            free AND free_before <= _wanted - least(all_mine, _wanted) AS taken
        FROM ranked
    )
    UPDATE edow.leases AS l SET
        owner = CASE WHEN d.kept OR d.taken THEN _owner ELSE '' END,
        until = CASE WHEN d.kept OR d.taken THEN _until ELSE 0 END,
        epoch = l.epoch + CASE WHEN d.taken THEN 1 ELSE 0 END
    FROM decided AS d
    WHERE l.shard = d.shard AND (d.mine OR d.taken);
    RETURN QUERY SELECT * FROM edow.leases WHERE owner <> '' ORDER BY shard;
END $$;

-- Be counted, and count.
CREATE FUNCTION edow.count_members(_owner text, _now bigint, _until bigint) RETURNS bigint LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM edow.lax();
    DELETE FROM edow.members WHERE owner IN (
        SELECT owner FROM edow.members WHERE until <= _now AND owner <> _owner FOR UPDATE SKIP LOCKED
    );
    INSERT INTO edow.members (owner, until) VALUES (_owner, _until)
    ON CONFLICT (owner) DO UPDATE SET until = excluded.until;
    RETURN (SELECT count(*) FROM edow.members WHERE until > _now OR owner = _owner);
END $$;

CREATE FUNCTION edow.release(_owner text) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM edow.lax();
    PERFORM 1 FROM edow.leases ORDER BY shard FOR UPDATE;
    UPDATE edow.leases SET owner = '', until = 0 WHERE owner = _owner;
    DELETE FROM edow.members WHERE owner = _owner;
END $$;

-- a commit

-- Nothing may be committed by whoever does not own all of these shards under these epochs, nor twice. The leases are
-- locked until the end of the transaction, so that none can be taken away while it is under way.
CREATE FUNCTION edow.fence(_shards integer[], _epochs bigint[], _stamp bigint) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    lost integer[];
BEGIN
    UPDATE edow.leases SET stamp = _stamp WHERE shard = _shards[1] AND stamp <> _stamp;
    IF NOT FOUND AND EXISTS (SELECT 1 FROM edow.leases WHERE shard = _shards[1]) THEN
        RAISE EXCEPTION 'this commit was applied before' USING ERRCODE = 'ED003';
    END IF;
    SELECT array_agg(x.shard ORDER BY x.shard) INTO lost
    FROM unnest(_shards, _epochs) AS x (shard, epoch)
    LEFT JOIN (
        SELECT l.shard, l.epoch FROM edow.leases AS l WHERE l.shard = ANY (_shards) ORDER BY l.shard FOR SHARE
    ) AS held ON held.shard = x.shard AND held.epoch = x.epoch
    WHERE held.shard IS NULL;
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION 'leases were lost' USING ERRCODE = 'ED001', DETAIL = array_to_string(lost, ',');
    END IF;
END $$;

-- Change rows that are still in the run they are thought to be in, and open; and append to the histories, except of
-- executions whose row should have been changed and was not. A row that comes into another run brings its input.
CREATE FUNCTION edow.advance(
    _ids text[], _old_runs integer[], _runs integer[], _statuses text[], _wakes bigint[], _ends bigint[],
    _lengths integer[], _results bytea[], _failures bytea[], _progresses bytea[], _attributes text[], _inputs bytea[],
    _executions text[], _of_runs integer[], _seqs integer[], _counts integer[], _bodies bytea[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    changed text[] := '{}';
    stale text[] := '{}';
BEGIN
    IF cardinality(_ids) > 0 THEN
        WITH advanced AS (
            UPDATE edow.executions AS e SET
                run = x.run, status = x.status, wake_at = x.wake_at, ended_at = x.ended_at, events = x.events,
                result = x.result, failure = x.failure, progress = x.progress, attributes = x.attributes
            FROM unnest(
                _ids, _old_runs, _runs, _statuses, _wakes, _ends, _lengths, _results, _failures, _progresses, _attributes
            ) AS x (
                id, old_run, run, status, wake_at, ended_at, events, result, failure, progress, attributes
            )
            WHERE e.id = x.id AND e.run = x.old_run AND e.status IN ('running', 'parked')
            RETURNING e.id
        )
        SELECT coalesce(array_agg(id), '{}') INTO changed FROM advanced;
        IF cardinality(changed) < cardinality(_ids) THEN
            stale := ARRAY(SELECT x FROM unnest(_ids) AS x WHERE x NOT IN (SELECT unnest(changed)));
        END IF;
        INSERT INTO edow.segments (execution, run, seq, count, body)
        SELECT x.id, x.run, -1, 0, x.input FROM unnest(_ids, _runs, _inputs) AS x (id, run, input)
        WHERE x.input IS NOT NULL AND x.id <> ALL (stale);
    END IF;
    INSERT INTO edow.segments (execution, run, seq, count, body)
    SELECT x.execution, x.run, x.seq, x.count, x.body
    FROM unnest(_executions, _of_runs, _seqs, _counts, _bodies) AS x (execution, run, seq, count, body)
    WHERE cardinality(stale) = 0 OR x.execution NOT IN (SELECT unnest(stale));
END $$;

-- The outbox numbers of the messages, in order.
CREATE FUNCTION edow.send(_shard integer, _stamp bigint, _topics text[], _keys bytea[], _bodies bytea[])
RETURNS bigint[] LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    numbers bigint[];
BEGIN
    WITH sent AS (
        INSERT INTO edow.outbox (stamp, shard, topic, key, body)
        SELECT _stamp, _shard, * FROM unnest(_topics, _keys, _bodies)
        RETURNING seq
    )
    SELECT array_agg(seq ORDER BY seq) INTO numbers FROM sent;
    RETURN numbers;
END $$;

-- Inputs that were acted on, by their numbers.
CREATE FUNCTION edow.consumed(_numbers bigint[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    DELETE FROM edow.inbox AS i USING unnest(_numbers) AS x (number)
    WHERE i.shard = (x.number & 1023)::integer AND i.seq = x.number >> 10;
END $$;

-- Messages that the transport has, by their numbers.
CREATE FUNCTION edow.sent(_numbers bigint[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    DELETE FROM edow.outbox WHERE seq = ANY (_numbers);
END $$;

CREATE FUNCTION edow.bury(
    _ids text[], _titles text[], _executions text[], _names text[], _runs integer[], _steps text[], _tasks text[],
    _shards integer[], _states text[], _args bytea[], _failures bytea[], _errors text[], _attempts integer[],
    _workflows text[], _correlations text[], _traces text[], _ats bigint[], _reasons text[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    INSERT INTO edow.dead_letters (
        id, title, execution, name, run, step, task, shard, state, args, failure, error, attempts, workflow,
        correlation, trace, at, reason
    )
    SELECT * FROM unnest(
        _ids, _titles, _executions, _names, _runs, _steps, _tasks, _shards, _states, _args, _failures, _errors,
        _attempts, _workflows, _correlations, _traces, _ats, _reasons
    ) AS x (id) ORDER BY x.id
    ON CONFLICT (id) DO UPDATE SET
        run = excluded.run, step = excluded.step, task = excluded.task, shard = excluded.shard, state = excluded.state,
        args = excluded.args, failure = excluded.failure, error = excluded.error, attempts = excluded.attempts,
        workflow = excluded.workflow, correlation = excluded.correlation, trace = excluded.trace, at = excluded.at,
        reason = excluded.reason;
END $$;

CREATE FUNCTION edow.mark(_ids text[], _states text[], _reasons text[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    UPDATE edow.dead_letters AS l SET state = x.state, reason = x.reason
    FROM unnest(_ids, _states, _reasons) AS x (id, state, reason) WHERE l.id = x.id;
END $$;

-- What attempts report; NULL for those that have ended.
CREATE FUNCTION edow.beat(
    _executions text[], _runs integer[], _steps text[], _titles text[], _details bytea[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    INSERT INTO edow.heartbeats (execution, run, step, title, details)
    SELECT * FROM unnest(_executions, _runs, _steps, _titles, _details) AS x (execution, run, step, title, details)
    WHERE x.details IS NOT NULL
    ON CONFLICT (execution, run, step) DO UPDATE SET details = excluded.details;
    DELETE FROM edow.heartbeats AS h
    USING unnest(_executions, _runs, _steps, _details) AS x (execution, run, step, details)
    WHERE x.details IS NULL AND h.execution = x.execution AND h.run = x.run AND h.step = x.step;
END $$;

-- reading

CREATE VIEW edow.whole_executions AS
SELECT e.*, i.body AS input
FROM edow.executions AS e LEFT JOIN edow.segments AS i ON i.execution = e.id AND i.run = e.run AND i.seq = -1;

CREATE FUNCTION edow.get(_ids text[]) RETURNS SETOF edow.whole_executions LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    RETURN QUERY SELECT * FROM edow.whole_executions WHERE id = ANY (_ids);
END $$;

-- All that is needed to rebuild executions: their histories in order, and what their attempts last reported.
CREATE FUNCTION edow.load(_ids text[])
RETURNS TABLE (
    number bigint, started_at bigint, wake_at bigint, ended_at bigint, shard integer, run integer, events integer,
    id text, workflow text, status text, correlation text, trace text, name text, result bytea, failure bytea,
    parent bytea, progress bytea, attributes text, input bytea, segments bytea[], steps text[], details bytea[]
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        e.*,
        ARRAY(
            SELECT s.body FROM edow.segments AS s
            WHERE s.execution = e.id AND s.run = e.run AND s.seq >= 0 ORDER BY s.seq
        ),
        ARRAY(SELECT h.title FROM edow.heartbeats AS h WHERE h.execution = e.id AND h.run = e.run ORDER BY h.step),
        ARRAY(SELECT h.details FROM edow.heartbeats AS h WHERE h.execution = e.id AND h.run = e.run ORDER BY h.step)
    FROM edow.whole_executions AS e WHERE e.id = ANY (_ids);
END $$;

CREATE FUNCTION edow.history(_execution text, _run integer) RETURNS SETOF bytea LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
BEGIN
    RETURN QUERY SELECT body FROM edow.segments
    WHERE execution = _execution AND run = _run AND seq >= 0 ORDER BY seq;
END $$;

-- The oldest commands of these shards that are not in hand already, however many lie in other shards.
CREATE FUNCTION edow.read_inbox(_shards integer[], _taken bigint[], _most integer)
RETURNS TABLE (number bigint, execution text, shard integer, command bytea) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT (found.seq << 10) + found.shard, found.execution, found.shard, found.command
    FROM unnest(_shards) AS x (shard) CROSS JOIN LATERAL (
        SELECT i.seq, i.shard, i.execution, i.command FROM edow.inbox AS i
        WHERE i.shard = x.shard AND (i.seq << 10) + i.shard NOT IN (SELECT unnest(_taken))
        ORDER BY i.seq LIMIT _most
    ) AS found
    ORDER BY found.seq LIMIT _most;
END $$;

CREATE FUNCTION edow.read_due(_shards integer[], _until bigint, _most integer)
RETURNS TABLE (id text, wake_at bigint) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT found.id, found.wake_at
    FROM unnest(_shards) AS x (shard) CROSS JOIN LATERAL (
        SELECT coalesce(e.name, e.id) AS id, e.wake_at FROM edow.executions AS e
        WHERE e.status = 'running' AND e.shard = x.shard AND e.wake_at IS NOT NULL AND e.wake_at <= _until
        ORDER BY e.wake_at LIMIT _most
    ) AS found
    ORDER BY found.wake_at LIMIT _most;
END $$;

-- Ended executions leave, with everything that belonged to them; how many.
CREATE FUNCTION edow.purge(_ended_before bigint, _most integer) RETURNS integer LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    ids text[];
BEGIN
    PERFORM edow.lax();
    ids := ARRAY(
        SELECT e.id FROM edow.executions AS e WHERE e.ended_at IS NOT NULL AND e.ended_at < _ended_before
        ORDER BY e.ended_at LIMIT _most FOR UPDATE SKIP LOCKED
    );
    DELETE FROM edow.segments WHERE execution = ANY (ids);
    DELETE FROM edow.heartbeats WHERE execution = ANY (ids);
    DELETE FROM edow.dead_letters WHERE execution = ANY (ids);
    DELETE FROM edow.executions WHERE id = ANY (ids);
    RETURN cardinality(ids);
END $$;
