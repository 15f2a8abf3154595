-- Topics, the queue of each consumer group, and who has which message in hand.
--
-- A message's `seq` is its queue's id (20 bits) and its position in that queue (43 bits), so that a queue is one range
-- of the table. Positions are given out under a lock that is held until the commit: whoever sees a message has seen, or
-- can see, all that were published to the queue before it.
--
-- Where a queue begins and where it ends are rows of different tables, so that who publishes does not wait for who
-- reads.

CREATE TABLE edow.topics (
    name text COLLATE "C" PRIMARY KEY
);

CREATE TABLE edow.queues (
    id integer PRIMARY KEY CHECK (id > 0 AND id < 1048576),
    topic text COLLATE "C" NOT NULL REFERENCES edow.topics (name),
    consumers text COLLATE "C" NOT NULL, -- the group; empty: everybody (broadcast), rows live for a minute
    UNIQUE (topic, consumers)
);

-- Position of the newest message ever published.
CREATE TABLE edow.tails (
    queue integer PRIMARY KEY REFERENCES edow.queues (id),
    tail bigint NOT NULL
) WITH (fillfactor = 20);

-- Shared: everything up to this position has been looked at by a claim. Its lock is held by claims, and by whoever
-- lets a key's next message through.
CREATE TABLE edow.heads (
    queue integer PRIMARY KEY REFERENCES edow.queues (id),
    head bigint NOT NULL
) WITH (fillfactor = 20);

-- Changes whenever a topic or queue is made, so that publishers know when what they remember is out of date.
CREATE TABLE edow.generation (number bigint NOT NULL);
INSERT INTO edow.generation VALUES (1);

-- Emptied by the server when it recovers from a crash: then messages that were published without waiting for the disk
-- may be gone, and positions are given out again. Readers who remember positions look here.
CREATE UNLOGGED TABLE edow.incarnation (
    single boolean PRIMARY KEY CHECK (single),
    number bigint NOT NULL
);

CREATE TABLE edow.messages (
    seq bigint PRIMARY KEY,
    at bigint NOT NULL,
    hash integer, -- of the key
    key bytea,
    body bytea NOT NULL
);
ALTER TABLE edow.messages ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX messages_by_key ON edow.messages (hash, seq) WHERE hash IS NOT NULL;

-- Messages at or before their queue's head that are in somebody's hands, or are to be delivered (again) at `until`.
-- One that is neither here nor beyond the head waits for an earlier one of its key.
CREATE TABLE edow.claims (
    seq bigint PRIMARY KEY,
    until bigint NOT NULL,
    owner bigint NOT NULL, -- the subscriber; 0: nobody
    queue integer NOT NULL,
    count integer NOT NULL -- deliveries so far
) WITH (fillfactor = 70);
CREATE INDEX claims_due ON edow.claims (queue, until);

-- Rows come and go by the thousand: their pages are to be used again soon, and never given back to the file system,
-- which would need a lock that stops everybody.
ALTER TABLE edow.messages SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000, vacuum_truncate = off
);
ALTER TABLE edow.claims SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000, vacuum_truncate = off
);
ALTER TABLE edow.tails SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);
ALTER TABLE edow.heads SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);
