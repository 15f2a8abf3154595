-- Queries of the SQLite store. {rows} stands for a table of parameters (see edow.sqlite.Bulk); `:ids` and its like are
-- JSON arrays.

-- name: shards_fix
-- The number of shards is decided by whoever creates the database.
INSERT OR IGNORE INTO meta (name, value) VALUES ('shards', ?), ('healed', 0)

-- name: shards_read
SELECT value FROM meta WHERE name = 'shards'

-- name: leases_make
INSERT OR IGNORE INTO leases (shard, owner, epoch, until) SELECT value, '', 0, 0 FROM json_each(?)

-- name: known
-- Which of these executions exist, and in what state.
SELECT json_group_array(json_array(e.id, e.run, e.status, e.shard, e.number))
FROM json_each(?) AS ids CROSS JOIN executions AS e ON e.id = ids.value

-- name: executions_insert
INSERT INTO executions (
    number, id, workflow, shard, run, status, started_at, wake_at, ended_at, events, correlation, trace, result,
    failure, parent, progress, attributes
)
SELECT
    nullif(column1, 0), column2, column3, column4, column5, column6, column7, column8, column9, column10, column11,
    column12, column13, column14, column15, column16, column17
FROM {rows} WHERE column1 IS NOT NULL

-- name: executions_delete
-- Rows about to be replaced by those of a new run.
DELETE FROM executions WHERE number IN (SELECT value FROM json_each(?))

-- name: letters_supersede
UPDATE dead_letters SET state = 'discarded', reason = 'the execution was replaced by a new run'
WHERE state = 'parked' AND execution IN (SELECT value FROM json_each(?))

-- name: executions_advance
-- Of executions that were running and go on, which most do: few columns, and no index but that of wake-ups.
UPDATE executions SET
    run = rows.column3, wake_at = rows.column4, events = rows.column5, progress = rows.column6,
    attributes = rows.column7, result = NULL, failure = NULL
FROM {rows} AS rows
WHERE id = rows.column1 AND executions.run = rows.column2 AND status = 'running'

-- name: executions_turn
-- Of executions that end, park or go on after having been parked.
UPDATE executions SET
    run = rows.column3, wake_at = rows.column4, events = rows.column5, progress = rows.column6,
    attributes = rows.column7, result = rows.column8, failure = rows.column9, status = rows.column10,
    ended_at = rows.column11
FROM {rows} AS rows
WHERE id = rows.column1 AND executions.run = rows.column2 AND status IN ('running', 'parked')

-- name: stands
-- What the rows of these executions say now: to find updates that were not applied.
SELECT json_group_array(json_array(e.id, e.run, e.status, e.events, e.wake_at))
FROM json_each(?) AS ids CROSS JOIN executions AS e ON e.id = ids.value

-- name: segments_insert
INSERT INTO segments (execution, run, seq, count, body)
SELECT column1, column2, column3, column4, column5 FROM {rows} WHERE column1 IS NOT NULL

-- name: inbox_insert
INSERT INTO inbox (shard, execution, command, at)
SELECT column1, column2, column3, column4 FROM {rows} WHERE column1 IS NOT NULL

-- name: inbox_delete
DELETE FROM inbox WHERE seq IN (SELECT value FROM json_each(?))

-- name: inbox_source
-- The oldest of each shard that are not in hand already, however many lie in other shards. Numbers are sorted, for rows
-- may be large.
SELECT i.seq AS seq, i.execution AS execution, i.shard AS shard, i.command AS command
FROM (
    SELECT old.seq AS seq FROM json_each(:shards) AS shards CROSS JOIN inbox AS old ON old.seq IN (
        SELECT seq FROM inbox
        WHERE shard = shards.value AND seq NOT IN (SELECT value FROM json_each(:taken))
        ORDER BY seq LIMIT :limit
    )
    ORDER BY old.seq LIMIT :limit
) AS found
CROSS JOIN inbox AS i ON i.seq = found.seq

-- name: inbox_large_source
-- The same, of which none is read that would be too many bytes. It takes longer.
SELECT i.seq AS seq, i.execution AS execution, i.shard AS shard, i.command AS command
FROM (
    SELECT seq, size, sum(size) OVER (ORDER BY seq) AS used FROM (
        SELECT old.seq AS seq, length(old.command) AS size
        FROM json_each(:shards) AS shards CROSS JOIN inbox AS old ON old.seq IN (
            SELECT seq FROM inbox
            WHERE shard = shards.value AND seq NOT IN (SELECT value FROM json_each(:taken))
            ORDER BY seq LIMIT :limit
        )
        ORDER BY old.seq LIMIT :limit
    )
) AS found
CROSS JOIN inbox AS i ON i.seq = found.seq
WHERE found.used - found.size < :bytes ORDER BY found.seq

-- name: outbox_insert
INSERT INTO outbox (shard, topic, key, body)
SELECT column1, column2, column3, column4 FROM {rows} WHERE column1 IS NOT NULL

-- name: outbox_delete
DELETE FROM outbox WHERE seq IN (SELECT value FROM json_each(?))

-- name: outbox_source
SELECT o.seq AS seq, o.topic AS topic, o.key AS key, o.body AS body
FROM (
    SELECT seq, size, sum(size) OVER (ORDER BY seq) AS used FROM (
        SELECT seq, length(body) AS size FROM outbox
        WHERE shard IN (SELECT value FROM json_each(:shards)) ORDER BY seq LIMIT :limit
    )
) AS found
CROSS JOIN outbox AS o ON o.seq = found.seq
WHERE found.used - found.size < :bytes ORDER BY found.seq

-- name: leases_lost
-- Shards of a JSON object {shard: epoch} that are not held under that epoch any more.
SELECT json_group_array(CAST(held.key AS INTEGER)) FROM json_each(?) AS held
LEFT JOIN leases ON leases.shard = CAST(held.key AS INTEGER) AND leases.epoch = held.value
WHERE leases.shard IS NULL

-- name: leases_read
SELECT shard, owner, epoch, until FROM leases ORDER BY shard

-- name: leases_set
UPDATE leases SET owner = ?, epoch = ?, until = ? WHERE shard = ?

-- name: leases_release
UPDATE leases SET owner = '', until = 0 WHERE owner = ?

-- name: members_set
INSERT OR REPLACE INTO members (owner, until) VALUES (?, ?)

-- name: members_expire
DELETE FROM members WHERE until <= ?

-- name: members_count
SELECT count(*) FROM members

-- name: members_delete
DELETE FROM members WHERE owner = ?

-- name: letters_insert
INSERT INTO dead_letters (
    id, execution, run, step, task, shard, state, args, failure, attempts, workflow, correlation, trace, at, reason,
    fingerprint
)
SELECT
    column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, column11, column12,
    column13, column14, column15, column16
FROM {rows} WHERE column1 IS NOT NULL
ON CONFLICT (id) DO UPDATE SET
    execution = excluded.execution, run = excluded.run, step = excluded.step, task = excluded.task,
    shard = excluded.shard, state = excluded.state, args = excluded.args, failure = excluded.failure,
    attempts = excluded.attempts, workflow = excluded.workflow, correlation = excluded.correlation,
    trace = excluded.trace, at = excluded.at, reason = excluded.reason, fingerprint = excluded.fingerprint, lot = ''

-- name: letters_state
UPDATE dead_letters SET state = ?, reason = ? WHERE id = ?

-- name: letters_settle
UPDATE dead_letters SET state = ?, reason = ? WHERE id = ? AND state = 'parked'

-- name: letters_purge
DELETE FROM dead_letters WHERE number IN (
    SELECT number FROM dead_letters
    WHERE execution = '' AND at < ? AND NOT (state = 'parked' AND lot <> '') ORDER BY at LIMIT ?
)

-- name: letters_close
UPDATE dead_letters SET state = :state, reason = :reason
WHERE id IN (SELECT value FROM json_each(:ids)) AND execution = '' AND state = 'parked'

-- name: letters_set_aside
UPDATE dead_letters SET lot = :reason WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'parked'

-- name: letters_groups
-- Each group with the number of its newest letter.
SELECT fingerprint, count(*), min(at), max(at), max(number) FROM dead_letters
WHERE state = 'parked' AND (lot <> '') = ? GROUP BY fingerprint ORDER BY count(*) DESC, fingerprint LIMIT ?

-- name: letters_numbered
SELECT id, execution, run, step, task, shard, state, attempts, workflow, correlation, trace, at, reason, fingerprint,
    lot, 'null' AS args, failure
FROM dead_letters WHERE number IN (SELECT value FROM json_each(?))

-- name: letters_source
SELECT id, execution, run, step, task, shard, state, attempts, workflow, correlation, trace, at, reason, fingerprint,
    lot, CASE WHEN :whole THEN args END AS args, CASE WHEN :whole THEN failure END AS failure
FROM dead_letters
WHERE (:ids IS NULL OR id IN (SELECT value FROM json_each(:ids)))
  AND (:execution IS NULL OR execution = :execution)
  AND (:task IS NULL OR task = :task)
  AND (:source IS NULL OR execution = '' AND substr(step, 1, length(:source) + 1) = :source || '@')
  AND (:state IS NULL OR state = :state)
  AND (:fingerprint IS NULL OR fingerprint = :fingerprint)
  AND (:before IS NULL OR at < :before)
  AND (:after_at IS NULL OR (at, id) > (:after_at, :after_id))
  AND (:aside IS NULL OR (lot <> '') = :aside)
  AND (
    :error IS NULL
    OR instr(json_extract(CAST(failure AS TEXT), '$.type'), :error)
    OR instr(json_extract(CAST(failure AS TEXT), '$.message'), :error)
  )
ORDER BY at, id LIMIT :limit

-- name: heartbeats_set
INSERT OR REPLACE INTO heartbeats (execution, run, step, details)
SELECT column1, column2, column3, column4 FROM {rows} WHERE column1 IS NOT NULL

-- name: heartbeats_delete
DELETE FROM heartbeats WHERE (execution, run, step) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?)
)

-- name: heartbeats_of
-- Of the current runs of these executions.
SELECT h.execution AS execution, h.step AS step, h.details AS details
FROM json_each(:ids) AS ids
CROSS JOIN executions AS e ON e.id = ids.value
CROSS JOIN heartbeats AS h ON h.execution = e.id AND h.run = e.run

-- name: executions_of
SELECT e.*, s.body AS input
FROM json_each(:ids) AS ids
CROSS JOIN executions AS e ON e.id = ids.value
LEFT JOIN segments AS s ON s.execution = e.id AND s.run = e.run AND s.seq = -1

-- name: segments_of
-- The histories of the current runs of these executions.
SELECT s.execution AS execution, s.body AS body
FROM json_each(:ids) AS ids
CROSS JOIN executions AS e ON e.id = ids.value
CROSS JOIN segments AS s ON s.execution = e.id AND s.run = e.run AND s.seq >= 0
ORDER BY ids.key, s.seq

-- name: history_source
SELECT seq, body FROM segments WHERE execution = :execution AND run = :run AND seq >= 0 ORDER BY seq

-- name: due_source
SELECT e.id AS id, e.wake_at AS wake_at
FROM json_each(:shards) AS shards CROSS JOIN executions AS e ON e.number IN (
    SELECT number FROM executions
    WHERE status = 'running' AND shard = shards.value AND wake_at IS NOT NULL AND wake_at <= :until
    ORDER BY wake_at LIMIT :limit
)
ORDER BY e.wake_at LIMIT :limit

-- name: healed_add
UPDATE meta SET value = value + ? WHERE name = 'healed'

-- name: healed_read
SELECT value FROM meta WHERE name = 'healed'

-- name: count_by_status
SELECT status, count(*) FROM executions GROUP BY status

-- name: count_rest
-- What is overdue is looked for in each shard, because the index holds all that sleep, by shard and time.
SELECT
    (SELECT count(*) FROM dead_letters WHERE state = 'parked' AND lot = ''),
    (SELECT count(*) FROM inbox),
    (SELECT min(at) FROM (SELECT at FROM inbox ORDER BY seq LIMIT 1000)),
    (SELECT count(*) FROM outbox),
    (
        SELECT count(*) FROM leases AS l CROSS JOIN executions AS e
            ON e.status = 'running' AND e.shard = l.shard AND e.wake_at IS NOT NULL AND e.wake_at < ?
    ),
    (SELECT value FROM meta WHERE name = 'healed')

-- name: purge_pick
SELECT json_group_array(id) FROM (
    SELECT id, events, sum(events) OVER (ORDER BY ended_at, number) AS all_events FROM (
        SELECT number, id, ended_at, events FROM executions
        WHERE ended_at IS NOT NULL AND ended_at < ? ORDER BY ended_at, number LIMIT ?
    )
)
WHERE all_events <= ? OR all_events = events

-- name: purge_segments
DELETE FROM segments WHERE execution IN (SELECT value FROM json_each(?))

-- name: purge_heartbeats
DELETE FROM heartbeats WHERE execution IN (SELECT value FROM json_each(?))

-- name: purge_letters
DELETE FROM dead_letters WHERE execution IN (SELECT value FROM json_each(?))

-- name: purge_executions
DELETE FROM executions WHERE id IN (SELECT value FROM json_each(?))

-- name: record_version
SELECT version FROM records WHERE kind = ? AND key = ?

-- name: record_set
INSERT INTO records (kind, key, version, at, expires_at, body)
VALUES (:kind, :key, :version, :at, :expires_at, :body)
ON CONFLICT (kind, key) DO UPDATE SET
    version = excluded.version, at = excluded.at, expires_at = excluded.expires_at, body = excluded.body

-- name: record_delete
DELETE FROM records WHERE kind = ? AND key = ?

-- name: records_get
SELECT kind, key, version, at, expires_at, body FROM records
WHERE kind = ? AND key IN (SELECT value FROM json_each(?))

-- name: records_up
SELECT kind, key, version, at, expires_at, body FROM records
WHERE kind = ? AND key >= ? AND key > ? AND key < ? ORDER BY key LIMIT ?

-- name: records_down
SELECT kind, key, version, at, expires_at, body FROM records
WHERE kind = ? AND key >= ? AND key < ? AND key < ? ORDER BY key DESC LIMIT ?

-- name: records_purge
DELETE FROM records WHERE (kind, key) IN (
    SELECT kind, key FROM records WHERE expires_at IS NOT NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?
)
