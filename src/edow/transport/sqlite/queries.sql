-- Queries of the SQLite transport. {rows} stands for a table of parameters (see edow.sqlite.Bulk); :seqs and its like
-- are JSON arrays. A queue's messages lie from (id << 43) to ((id + 1) << 43).

-- name: topics_read
SELECT json_group_array(json_array(topics.name, queues.id, queues.consumers))
FROM topics LEFT JOIN queues ON queues.topic = topics.name

-- name: topics_make
INSERT OR IGNORE INTO topics (name) VALUES (?)

-- name: queues_make
INSERT OR IGNORE INTO queues (topic, consumers, tail, head) VALUES (?, ?, 0, 0)

-- name: generation_raise
UPDATE generation SET number = number + 1

-- name: generation_read
SELECT number FROM generation

-- name: tails_read
-- The generation, and the tails of these queues.
SELECT generation.number, (
    SELECT json_group_object(id, tail) FROM queues WHERE id IN (SELECT value FROM json_each(?))
)
FROM generation

-- name: tails_set
UPDATE queues SET tail = tails.value FROM json_each(?) AS tails WHERE queues.id = CAST(tails.key AS INTEGER)

-- name: publish
INSERT INTO messages (seq, key, at, body)
SELECT column1, column2, column3, column4 FROM {rows} WHERE column1 IS NOT NULL

-- name: delete
DELETE FROM messages WHERE seq IN (SELECT value FROM json_each(?))

-- name: expire
-- Broadcast messages that are old enough for everybody to have seen them.
DELETE FROM messages WHERE seq IN (
    SELECT m.seq FROM queues CROSS JOIN messages AS m ON m.seq > queues.id << 43 AND m.seq < (queues.id + 1) << 43
    WHERE queues.consumers = '' AND m.at < ? LIMIT 10000
)

-- name: ranges_source
-- Messages in these ranges [[after, before], ...].
SELECT m.seq AS seq, m.key AS key, m.body AS body
FROM json_each(:ranges) AS ranges CROSS JOIN messages AS m
    ON m.seq > json_extract(ranges.value, '$[0]') AND m.seq < json_extract(ranges.value, '$[1]')
LIMIT :limit

-- name: due_source
-- Claims that have run out, were given back, or were put off until now.
SELECT c.seq AS seq, c.count AS times, m.key AS key, m.body AS body, 0 AS blocked
FROM claims AS c CROSS JOIN messages AS m ON m.seq = c.seq
WHERE c.queue = :queue AND c.until <= :now ORDER BY c.until, c.seq LIMIT :limit

-- name: new_source
-- What nobody has looked at yet. Blocked: an earlier message of its key is not acknowledged.
SELECT seq, 0 AS times, key, CASE WHEN blocked THEN x'' ELSE body END AS body, blocked FROM (
    SELECT m.seq AS seq, m.key AS key, m.body AS body, m.key IS NOT NULL AND EXISTS (
        SELECT 1 FROM messages AS earlier
        WHERE earlier.key = m.key AND earlier.seq > :queue << 43 AND earlier.seq < m.seq
    ) AS blocked
    FROM queues CROSS JOIN messages AS m
        ON m.seq > (:queue << 43) + queues.head AND m.seq < (:queue + 1) << 43
    WHERE queues.id = :queue ORDER BY m.seq LIMIT :limit
)

-- name: claim
INSERT INTO claims (seq, queue, until, owner, count)
SELECT value, :queue, :until, :owner, 1 FROM json_each(:seqs) WHERE true
ON CONFLICT (seq) DO UPDATE SET until = excluded.until, owner = excluded.owner, count = count + 1

-- name: head_set
UPDATE queues SET head = ? WHERE id = ?

-- name: next_due
-- When the first message in anybody's hands is to be delivered again.
SELECT min(until) FROM claims WHERE queue = ?

-- name: anything
-- Whether a claim would find something, and when it would at the latest.
SELECT
    EXISTS (SELECT 1 FROM claims WHERE queue = :queue AND until <= :now) OR EXISTS (
        SELECT 1 FROM queues CROSS JOIN messages AS m
            ON m.seq > (:queue << 43) + queues.head AND m.seq < (:queue + 1) << 43
        WHERE queues.id = :queue
    ),
    (SELECT min(until) FROM claims WHERE queue = :queue)

-- name: ack_messages
DELETE FROM messages WHERE seq IN (
    SELECT c.seq FROM json_each(:seqs) AS seqs CROSS JOIN claims AS c ON c.seq = seqs.value WHERE c.owner = :owner
)

-- name: ack_claims
DELETE FROM claims WHERE seq IN (SELECT value FROM json_each(:seqs)) AND owner = :owner

-- name: ack_keys
-- The next message of each key [[queue, key], ...] may be delivered now, if a claim has passed over it.
INSERT INTO claims (seq, queue, until, owner, count)
SELECT following.seq, queues.id, 0, 0, 0 FROM json_each(?) AS pairs
CROSS JOIN queues ON queues.id = json_extract(pairs.value, '$[0]')
CROSS JOIN messages AS following ON following.seq = (
    SELECT min(m.seq) FROM messages AS m
    WHERE m.key = json_extract(pairs.value, '$[1]') AND m.seq > queues.id << 43 AND m.seq < (queues.id + 1) << 43
)
WHERE following.seq <= (queues.id << 43) + queues.head
ON CONFLICT (seq) DO NOTHING

-- name: give_back
UPDATE claims SET owner = 0, until = :until
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND owner = :owner

-- name: extend
UPDATE claims SET until = :until WHERE seq IN (SELECT value FROM json_each(:seqs)) AND owner = :owner

-- name: owned
SELECT json_group_array(c.seq) FROM json_each(:seqs) AS seqs CROSS JOIN claims AS c ON c.seq = seqs.value
WHERE c.owner = :owner

-- name: describe
-- Messages up to the head are counted, those beyond it are known: a claim looks at every position once.
SELECT
    tail,
    head,
    (SELECT at FROM messages WHERE seq > id << 43 AND seq < (id + 1) << 43 ORDER BY seq LIMIT 1),
    (SELECT min(seq) - (id << 43) FROM messages WHERE seq > id << 43 AND seq < (id + 1) << 43),
    (SELECT count(*) FROM messages WHERE seq > id << 43 AND seq <= (id << 43) + min(tail, max(head, :exact))),
    (SELECT count(*) FROM claims WHERE queue = id AND owner <> 0 AND until > :now)
FROM queues WHERE id = :queue
