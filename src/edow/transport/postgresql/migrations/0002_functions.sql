-- What a transport does many times a second, as functions: whatever a batch holds is one statement, one transaction and
-- one round trip, and its plans are kept by the server, also behind a pooler.
--
-- Plans are made once and used for batches of any size on tables of any size, so they must go through the indexes; what
-- would only be quick on small tables is forbidden to them.
--
-- Who publishes locks tails, by queue, and nothing after them. Who claims or acknowledges locks heads, by queue, then
-- claims and messages, by seq. So nobody waits in a circle.

-- Make what is missing of these topics, and of these groups of topics.
CREATE FUNCTION edow.make(_topics text[], _of text[], _groups text[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM 1 FROM edow.generation FOR UPDATE;
    INSERT INTO edow.topics (name) SELECT DISTINCT name FROM unnest(_topics) AS name ON CONFLICT DO NOTHING;
    WITH made AS (
        INSERT INTO edow.queues (id, topic, consumers)
        SELECT (SELECT coalesce(max(id), 0) FROM edow.queues) + row_number() OVER (), x.topic, x.consumers
        FROM (
            SELECT DISTINCT * FROM unnest(_of, _groups) AS y (topic, consumers)
            EXCEPT SELECT topic, consumers FROM edow.queues
        ) AS x
        RETURNING id
    ), beginnings AS (
        INSERT INTO edow.heads (queue, head) SELECT id, 0 FROM made
    )
    INSERT INTO edow.tails (queue, tail) SELECT id, 0 FROM made;
    UPDATE edow.generation SET number = number + 1;
END $$;

-- Append messages to queues. Each has the place of its queue in `_queues` and, from 1, its position among those for the
-- same queue, of which there are `_counts`. Nothing is published if topics are not as they were at `_generation`.
CREATE FUNCTION edow.publish(
    _generation bigint, _at bigint, _queues integer[], _counts integer[], _places integer[], _positions integer[],
    _hashes integer[], _keys bytea[], _bodies bytea[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    bases bigint[] := '{}';
    newest bigint;
BEGIN
    FOR place IN 1 .. cardinality(_queues) LOOP
        UPDATE edow.tails SET tail = tail + _counts[place] WHERE queue = _queues[place] RETURNING tail INTO newest;
        bases := bases || (_queues[place]::bigint << 43) + newest - _counts[place];
    END LOOP;
    IF (SELECT number FROM edow.generation) <> _generation THEN
        RAISE EXCEPTION 'topics were made meanwhile' USING ERRCODE = 'ED002';
    END IF;
    INSERT INTO edow.messages (seq, at, hash, key, body)
    SELECT bases[x.place] + x.pos, _at, x.hash, x.key, x.body
    FROM unnest(_places, _positions, _hashes, _keys, _bodies) AS x (place, pos, hash, key, body);
END $$;

-- Take up to `_most` messages of `_bytes` together, first those that come again, then what nobody has looked at yet. A
-- message of a key of which an earlier one is not acknowledged is passed over. The last row has no `seq`: its `times` is
-- 1 if there may be more at once, and `due` is when something may be, else.
CREATE FUNCTION edow.claim(_queue integer, _most integer, _bytes bigint, _owner bigint, _now bigint, _until bigint)
RETURNS TABLE (seq bigint, at bigint, times integer, key bytea, body bytea, due bigint) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    _first bigint := _queue::bigint << 43;
    _beyond bigint := (_queue::bigint + 1) << 43;
    _before bigint;
    _head bigint;
    again bigint[];
    new bigint[];
    taken bigint[] := '{}';
    wanted integer;
    looked integer;
    last bigint;
    room bigint := _bytes;
    used bigint;
    more boolean := false;
BEGIN
    IF NOT (SELECT anything FROM edow.look(ARRAY[_queue], _now)) THEN -- nobody is kept waiting for nothing
        RETURN QUERY
        SELECT
            NULL::bigint, NULL::bigint, 0, NULL::bytea, NULL::bytea,
            (SELECT min(c.until) FROM edow.claims AS c WHERE c.queue = _queue);
        RETURN;
    END IF;
    PERFORM edow.lax();
    SELECT _first + h.head INTO _before FROM edow.heads AS h WHERE h.queue = _queue FOR UPDATE;
    _head := _before;
    SELECT coalesce(array_agg(x.seq), '{}'), coalesce(max(x.used), 0) INTO again, used FROM (
        SELECT c.seq, octet_length(m.body) AS size, sum(octet_length(m.body)) OVER (ORDER BY c.until, c.seq) AS used
        FROM (
            SELECT d.seq, d.until FROM edow.claims AS d WHERE d.queue = _queue AND d.until <= _now
            ORDER BY d.until, d.seq LIMIT _most FOR UPDATE SKIP LOCKED
        ) AS c
        JOIN edow.messages AS m ON m.seq = c.seq
    ) AS x WHERE x.used - x.size < _bytes;
    room := room - used;
    FOR scan IN 1 .. 8 LOOP
        wanted := _most - cardinality(again) - cardinality(taken);
        more := wanted <= 0 OR room <= 0;
        EXIT WHEN more;
        SELECT
            coalesce(array_agg(x.seq ORDER BY x.seq) FILTER (WHERE NOT x.blocked AND x.used - x.size < room), '{}'),
            max(x.seq) FILTER (WHERE x.used - x.size < room), count(*),
            coalesce(max(x.used), 0)
        INTO new, last, looked, used FROM (
            SELECT f.seq, f.blocked, f.size, sum(f.size) OVER (ORDER BY f.seq) AS used FROM (
                SELECT g.seq, g.blocked, CASE WHEN g.blocked THEN 0 ELSE g.size END AS size FROM (
                    SELECT m.seq, octet_length(m.body) AS size, m.hash IS NOT NULL AND EXISTS (
                        SELECT 1 FROM edow.messages AS e
                        WHERE e.hash = m.hash AND e.seq > _first AND e.seq < m.seq AND e.key = m.key
                    ) AS blocked
                    FROM edow.messages AS m WHERE m.seq > _head AND m.seq < _beyond ORDER BY m.seq LIMIT wanted
                ) AS g
            ) AS f
        ) AS x;
        EXIT WHEN looked = 0;
        taken := taken || new;
        _head := last;
        room := room - used;
        more := true;
        EXIT WHEN looked < wanted AND room > 0;
    END LOOP;
    IF looked < wanted AND room > 0 THEN
        more := false;
    END IF;
    IF cardinality(again) > 0 THEN
        UPDATE edow.claims AS c SET until = _until, owner = _owner, count = c.count + 1 WHERE c.seq = ANY (again);
    END IF;
    IF cardinality(taken) > 0 THEN
        INSERT INTO edow.claims (seq, until, owner, queue, count)
        SELECT x, _until, _owner, _queue, 1 FROM unnest(taken) AS x;
    END IF;
    IF _head > _before THEN
        UPDATE edow.heads AS h SET head = _head - _first WHERE h.queue = _queue;
    END IF;
    RETURN QUERY
    SELECT m.seq, m.at, c.count, m.key, m.body, NULL::bigint
    FROM unnest(again || taken) AS x (seq)
    JOIN edow.claims AS c ON c.seq = x.seq JOIN edow.messages AS m ON m.seq = x.seq;
    RETURN QUERY
    SELECT
        NULL::bigint, NULL::bigint, more::integer, NULL::bytea, NULL::bytea,
        CASE WHEN NOT more THEN (SELECT min(c.until) FROM edow.claims AS c WHERE c.queue = _queue) END;
END $$;

-- Done with messages that are still their owner's. `_queues`, `_hashes` and `_keys` are those of the messages that have
-- a key: its next one may be delivered now, if a claim has passed over it. Queues in which that was so are returned.
CREATE FUNCTION edow.settle(
    _seqs bigint[], _owners bigint[], _queues integer[], _hashes integer[], _keys bytea[]
) RETURNS integer[] LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    let integer[];
BEGIN
    IF cardinality(_queues) > 0 THEN
        PERFORM 1 FROM edow.heads AS h WHERE h.queue = ANY (_queues) ORDER BY h.queue FOR UPDATE;
    END IF;
    WITH gone AS (
        DELETE FROM edow.claims AS c USING unnest(_seqs, _owners) AS x (seq, owner)
        WHERE c.seq = x.seq AND c.owner = x.owner
        RETURNING c.seq
    )
    DELETE FROM edow.messages AS m USING gone WHERE m.seq = gone.seq;
    IF cardinality(_queues) > 0 THEN
        WITH following AS (
            SELECT x.queue, h.head, (
                SELECT m.seq FROM edow.messages AS m
                WHERE m.hash = x.hash AND m.key = x.key
                  AND m.seq > x.queue::bigint << 43 AND m.seq < (x.queue::bigint + 1) << 43
                ORDER BY m.seq LIMIT 1
            ) AS seq
            FROM (SELECT DISTINCT * FROM unnest(_queues, _hashes, _keys) AS y (queue, hash, key)) AS x
            JOIN edow.heads AS h ON h.queue = x.queue
        ), passed AS (
            INSERT INTO edow.claims (seq, until, owner, queue, count)
            SELECT f.seq, 0, 0, f.queue, 0 FROM following AS f WHERE f.seq <= (f.queue::bigint << 43) + f.head
            ON CONFLICT (seq) DO NOTHING
            RETURNING queue
        )
        SELECT array_agg(DISTINCT queue) INTO let FROM passed;
    END IF;
    RETURN let;
END $$;

-- Done with messages that nobody claims. `_ats` makes sure that they are the same that were read.
CREATE FUNCTION edow.forget(_seqs bigint[], _ats bigint[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    DELETE FROM edow.messages AS m USING unnest(_seqs, _ats) AS x (seq, at) WHERE m.seq = x.seq AND m.at = x.at;
END $$;

-- Not done with them: others may have them from `_until` on.
CREATE FUNCTION edow.give_back(_seqs bigint[], _owner bigint, _until bigint) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    PERFORM edow.lax();
    UPDATE edow.claims AS c SET owner = 0, until = _until FROM unnest(_seqs) AS x (seq)
    WHERE c.seq = x.seq AND c.owner = _owner;
END $$;

-- Those that are still the owner's, and are from now on until then.
CREATE FUNCTION edow.extend(_seqs bigint[], _owner bigint, _until bigint) RETURNS SETOF bigint LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    PERFORM edow.lax();
    RETURN QUERY
    UPDATE edow.claims AS c SET until = _until FROM unnest(_seqs) AS x (seq)
    WHERE c.seq = x.seq AND c.owner = _owner RETURNING c.seq;
END $$;

-- Whether a claim would find something in each of the queues, and when it would at the latest.
CREATE FUNCTION edow.look(_queues integer[], _now bigint)
RETURNS TABLE (anything boolean, due bigint) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT
        EXISTS (SELECT 1 FROM edow.claims AS c WHERE c.queue = h.queue AND c.until <= _now) OR EXISTS (
            SELECT 1 FROM edow.messages AS m
            WHERE m.seq > (h.queue::bigint << 43) + h.head AND m.seq < (h.queue::bigint + 1) << 43
        ),
        (SELECT min(c.until) FROM edow.claims AS c WHERE c.queue = h.queue)
    FROM edow.heads AS h WHERE h.queue = ANY (_queues);
END $$;

-- Up to `_most` messages of `_bytes` together, from the ranges one after the other. The last row has no `seq`; its `at`
-- is the server's incarnation.
CREATE FUNCTION edow.read(_afters bigint[], _befores bigint[], _most integer, _bytes bigint)
RETURNS TABLE (seq bigint, at bigint, key bytea, body bytea) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    chosen bigint[];
BEGIN
    SELECT coalesce(array_agg(f.seq), '{}') INTO chosen FROM (
        SELECT m.seq, m.size, sum(m.size) OVER (ORDER BY x.place, m.seq) AS used
        FROM unnest(_afters, _befores) WITH ORDINALITY AS x (after, before, place) CROSS JOIN LATERAL (
            SELECT n.seq, octet_length(n.body) AS size FROM edow.messages AS n
            WHERE n.seq > x.after AND n.seq < x.before ORDER BY n.seq LIMIT _most
        ) AS m
        ORDER BY x.place, m.seq LIMIT _most
    ) AS f WHERE f.used - f.size < _bytes;
    RETURN QUERY
    SELECT m.seq, m.at, m.key, m.body FROM unnest(chosen) AS x (seq) JOIN edow.messages AS m ON m.seq = x.seq;
    RETURN QUERY SELECT NULL::bigint, (SELECT i.number FROM edow.incarnation AS i), NULL::bytea, NULL::bytea;
END $$;
