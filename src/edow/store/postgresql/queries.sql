-- Queries of the PostgreSQL store that are no functions: rare ones, and those for which a plan of their own is worth
-- its price. `edow` is replaced by the schema's name.

-- name: shards_fix
-- The number of shards is decided by whoever creates the database.
INSERT INTO edow.meta (name, value) VALUES ('shards', $1), ('healed', 0) ON CONFLICT (name) DO NOTHING

-- name: shards_read
SELECT value FROM edow.meta WHERE name = 'shards'

-- name: leases_make
INSERT INTO edow.leases (shard, owner, epoch, until)
SELECT shard, '', 0, 0 FROM generate_series(0, $1::bigint - 1) AS shard
ON CONFLICT (shard) DO NOTHING

-- name: leases_share
-- Who is alive is counted before leases are held, for how many depends on it. One row with nulls where nobody has any.
WITH alive AS MATERIALIZED (SELECT edow.count_members($1, $2, $3) AS members)
SELECT alive.members, held.shard, held.owner, held.epoch, held.until
FROM alive
LEFT JOIN LATERAL edow.hold($1, ceil($4::numeric / alive.members)::integer, $2, $3) AS held ON true

-- name: sent_by
-- What a commit has put into the outbox.
SELECT seq FROM edow.outbox WHERE shard = $1 AND stamp = $2 ORDER BY seq

-- name: inbox_read
-- As many as are not too many bytes, in the function's order. What a value's size is tells the row, without the value
-- being read.
SELECT number, execution, shard, command FROM (
    SELECT *, sum(octet_length(command)) OVER (ROWS UNBOUNDED PRECEDING) AS used FROM edow.read_inbox($1, $2, $3)
) AS found
WHERE used - octet_length(command) < $4

-- name: outbox_read
SELECT seq, topic, key, body FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY seq) AS used FROM (
        SELECT seq, topic, key, body FROM edow.outbox WHERE shard = ANY ($1::integer[]) ORDER BY seq LIMIT $2
    ) AS oldest
) AS found
WHERE used - octet_length(body) < $3 ORDER BY seq

-- name: letters_close
-- Records first; they are written also where no letter is left to close.
WITH beside AS MATERIALIZED (
    SELECT edow.put_records($1, $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::bigint[])
), closed AS (
    UPDATE edow.dead_letters SET state = $9, reason = $8
    WHERE id = ANY ($7::text[]) AND execution = '' AND state = 'parked' RETURNING id
)
SELECT closed.id FROM beside LEFT JOIN closed ON true

-- name: letters_list
SELECT title, name, run, step, task, shard, state, CASE WHEN $13 THEN args ELSE 'null' END,
    CASE WHEN $13 THEN failure ELSE 'null' END, attempts, workflow, correlation, trace, at, reason, fingerprint, lot
FROM edow.dead_letters
WHERE ($1::text[] IS NULL OR id = ANY ($1::text[]))
  AND ($2::text IS NULL OR execution = $2)
  AND ($3::text IS NULL OR task = $3)
  AND ($4::text IS NULL OR state = $4)
  AND ($5::text IS NULL OR position($5 IN error) > 0)
  AND ($7::text IS NULL OR fingerprint = $7)
  AND ($8::bigint IS NULL OR at < $8)
  AND ($9::boolean IS NULL OR (lot <> '') = $9)
  AND ($10::bigint IS NULL OR (at, id) > ($10, $11::text))
  AND ($12::text IS NULL OR execution = '' AND starts_with(step, $12 || '@'))
ORDER BY at, id LIMIT $6

-- name: letters_purge
DELETE FROM edow.dead_letters WHERE id IN (
    SELECT id FROM edow.dead_letters
    WHERE execution = '' AND at < $1 AND NOT (state = 'parked' AND lot <> '') ORDER BY at LIMIT $2
    FOR UPDATE SKIP LOCKED
) RETURNING 1

-- name: letters_groups
-- Each with its newest letter, but for that one's arguments.
WITH groups AS (
    SELECT fingerprint, count(*) AS size, min(at) AS first_at, max(at) AS last_at FROM edow.dead_letters
    WHERE state = 'parked' AND (lot <> '') = $1 GROUP BY fingerprint ORDER BY count(*) DESC, fingerprint LIMIT $2
)
SELECT
    newest.title, newest.name, newest.run, newest.step, newest.task, newest.shard, newest.state, 'null'::bytea,
    newest.failure, newest.attempts, newest.workflow, newest.correlation, newest.trace, newest.at, newest.reason,
    newest.fingerprint, newest.lot, groups.size, groups.first_at, groups.last_at
FROM groups CROSS JOIN LATERAL (
    SELECT * FROM edow.dead_letters AS l
    WHERE l.state = 'parked' AND (l.lot <> '') = $1 AND l.fingerprint = groups.fingerprint
    ORDER BY l.at DESC LIMIT 1
) AS newest
ORDER BY groups.size DESC, groups.fingerprint

-- name: letters_set_aside
WITH beside AS MATERIALIZED (
    SELECT edow.put_records($1, $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::bigint[])
), moved AS (
    UPDATE edow.dead_letters SET lot = $8 WHERE id = ANY ($7::text[]) AND state = 'parked' RETURNING id
)
SELECT moved.id FROM beside LEFT JOIN moved ON true

-- name: list_of_workflow
-- Those of one workflow that are in one standing, in the order of the index that holds them.
(
    SELECT * FROM edow.executions AS e
    WHERE e.workflow = workflows.name AND {which}
      AND e.started_at > $2 AND e.started_at < $3 AND (e.started_at, e.number) < ($4::bigint, $5::bigint)
      AND ($6::text IS NULL OR edow.searchable(e.attributes) @> edow.searchable($6))
      AND ($8::text IS NULL OR e.id >= $8::text COLLATE "C" AND e.id < ($8::text || chr(1114111)) COLLATE "C")
    ORDER BY e.started_at DESC, e.number DESC LIMIT $7
)

-- name: list_by_workflow
-- The executions of one workflow in one standing are read in order from one index, and the results for all that were
-- asked for are merged; so a page costs the same with a thousand executions as with a million. The names of all
-- workflows are found by leaps through the index.
WITH RECURSIVE workflows (name) AS (
    SELECT coalesce($1::text, (SELECT min(workflow) FROM edow.executions))
    UNION ALL
    SELECT (SELECT min(e.workflow) FROM edow.executions AS e WHERE e.workflow > w.name) FROM workflows AS w
    WHERE $1::text IS NULL AND w.name IS NOT NULL
)
SELECT page.*, i.body AS input FROM (
    SELECT found.* FROM workflows CROSS JOIN LATERAL ({sources}) AS found
    ORDER BY found.started_at DESC, found.number DESC LIMIT $7
) AS page
LEFT JOIN edow.segments AS i ON i.execution = page.id AND i.run = page.run AND i.seq = -1
ORDER BY page.started_at DESC, page.number DESC

-- name: count_by_id
-- How many ids begin so, but no more than it takes to know that they are many.
SELECT count(*) FROM (
    SELECT 1 FROM edow.executions AS e
    WHERE e.id >= $1::text COLLATE "C" AND e.id < ($1 || chr(1114111)) COLLATE "C" LIMIT $2
) AS found

-- name: list_by_id
SELECT page.*, i.body AS input FROM (
    SELECT * FROM edow.executions AS e
    WHERE ($1::text IS NULL OR e.workflow = $1) AND ({which})
      AND e.started_at > $2 AND e.started_at < $3 AND (e.started_at, e.number) < ($4::bigint, $5::bigint)
      AND ($6::text IS NULL OR edow.searchable(e.attributes) @> edow.searchable($6))
      AND e.id >= $8::text COLLATE "C" AND e.id < ($8 || chr(1114111)) COLLATE "C"
      AND starts_with(coalesce(e.name, e.id), $9)
    ORDER BY e.started_at DESC, e.number DESC LIMIT $7
) AS page
LEFT JOIN edow.segments AS i ON i.execution = page.id AND i.run = page.run AND i.seq = -1
ORDER BY page.started_at DESC, page.number DESC

-- name: healed_add
UPDATE edow.meta SET value = value + $1 WHERE name = 'healed'

-- name: count_by_status
SELECT status, count(*) FROM edow.executions GROUP BY status

-- name: count_rest
-- What is overdue is looked for in each shard, because the index holds all that sleep, by shard and time.
SELECT
    (SELECT count(*) FROM edow.dead_letters WHERE state = 'parked' AND lot = ''),
    (SELECT count(*) FROM edow.inbox),
    (SELECT min(at) FROM edow.inbox),
    (SELECT count(*) FROM edow.outbox),
    (
        SELECT count(*) FROM edow.leases AS l CROSS JOIN LATERAL (
            SELECT 1 FROM edow.executions AS e
            WHERE e.status = 'running' AND e.shard = l.shard AND e.wake_at IS NOT NULL AND e.wake_at < $1 OFFSET 0
        ) AS overdue
    ),
    (SELECT value FROM edow.meta WHERE name = 'healed'),
    (
        SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $2 AND c.relkind = 'r'
    )

-- name: purge
SELECT edow.purge($1, (
    SELECT count(*)::integer FROM (
        SELECT events, sum(events) OVER (ORDER BY ended_at, id) AS all_events FROM (
            SELECT id, ended_at, events FROM edow.executions
            WHERE ended_at IS NOT NULL AND ended_at < $1 ORDER BY ended_at LIMIT $2
        ) AS oldest
    ) AS counted
    WHERE all_events <= $3 OR all_events = events
))

-- name: purge_history
-- A piece of the history of the execution that ended first.
DELETE FROM edow.segments WHERE (execution, run, seq) IN (
    SELECT s.execution, s.run, s.seq FROM (
        SELECT id FROM edow.executions
        WHERE ended_at IS NOT NULL AND ended_at < $1 ORDER BY ended_at LIMIT 1 FOR UPDATE SKIP LOCKED
    ) AS leaving
    JOIN edow.segments AS s ON s.execution = leaving.id LIMIT $2
) RETURNING 1

-- name: records_get
SELECT kind, key, body, version, at, expires_at FROM edow.records WHERE kind = $1 AND key = ANY ($2::text[])

-- name: records_up
SELECT kind, key, body, version, at, expires_at FROM edow.records
WHERE kind = $1 AND key >= $2 AND key > $3 AND key < $4 ORDER BY key LIMIT $5

-- name: records_down
SELECT kind, key, body, version, at, expires_at FROM edow.records
WHERE kind = $1 AND key >= $2 AND key < $3 AND key < $4 ORDER BY key DESC LIMIT $5

-- name: records_purge
DELETE FROM edow.records WHERE (kind, key) IN (
    SELECT kind, key FROM edow.records WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
) RETURNING 1
