-- Queries of the PostgreSQL transport that are no functions: rare ones. `edow` is replaced by the schema's name.

-- name: topics_read
SELECT g.number, t.name, q.id, q.consumers
FROM edow.generation AS g LEFT JOIN edow.topics AS t ON true LEFT JOIN edow.queues AS q ON q.topic = t.name

-- name: tails_read
SELECT queue, tail FROM edow.tails WHERE queue = ANY ($1::integer[])

-- name: incarnation_begin
INSERT INTO edow.incarnation (single, number) VALUES (true, $1) ON CONFLICT DO NOTHING

-- name: incarnation_read
SELECT number FROM edow.incarnation

-- name: expire
-- Broadcast messages that are old enough for everybody to have seen them.
DELETE FROM edow.messages WHERE seq IN (
    SELECT m.seq FROM edow.queues AS q JOIN edow.messages AS m
        ON m.seq > q.id::bigint << 43 AND m.seq < (q.id::bigint + 1) << 43
    WHERE q.consumers = '' AND m.at < $1 LIMIT 10000
)

-- name: describe
-- Messages up to the head are counted, those beyond it are known: a claim looks at every position once.
SELECT
    q.topic,
    q.consumers,
    t.tail,
    h.head,
    (SELECT m.at FROM edow.messages AS m WHERE m.seq > x.first AND m.seq < x.beyond ORDER BY m.seq LIMIT 1),
    (SELECT min(m.seq) - x.first FROM edow.messages AS m WHERE m.seq > x.first AND m.seq < x.beyond),
    (
        SELECT count(*) FROM edow.messages AS m
        WHERE m.seq > x.first AND m.seq <= x.first + least(t.tail, greatest(h.head, $3))
    ),
    (SELECT count(*) FROM edow.claims AS c WHERE c.queue = q.id AND c.owner <> 0 AND c.until > $2)
FROM edow.queues AS q
JOIN edow.tails AS t ON t.queue = q.id JOIN edow.heads AS h ON h.queue = q.id
CROSS JOIN LATERAL (SELECT q.id::bigint << 43 AS first, (q.id::bigint + 1) << 43 AS beyond) AS x
WHERE q.topic = ANY ($1::text[]) AND q.consumers <> ''
