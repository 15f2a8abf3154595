-- Topics, the queue of each consumer group, and who has which message in hand.
--
-- A message's `seq` is its queue's id (20 bits) and its position in that queue (43 bits), so that a queue is one range
-- of the table, read and deleted in one sweep, and no index has to say where it is.

CREATE TABLE topics (
    name TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE queues (
    id INTEGER PRIMARY KEY CHECK (id < 1048576),
    topic TEXT NOT NULL REFERENCES topics (name),
    consumers TEXT NOT NULL, -- the group; empty: everybody (broadcast), rows live for a minute
    tail INTEGER NOT NULL, -- position of the newest message ever published
    head INTEGER NOT NULL, -- shared: everything up to this position has been looked at by a claim
    UNIQUE (topic, consumers)
);

-- Changes whenever a topic or queue is made, so that publishers know when what they remember is out of date.
CREATE TABLE generation (number INTEGER NOT NULL);
INSERT INTO generation VALUES (1);

CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,
    key TEXT,
    at INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX messages_by_key ON messages (key) WHERE key IS NOT NULL;

-- Messages at or before their queue's head that are in somebody's hands, or are to be delivered (again) at `until`.
-- One that is neither here nor beyond the head waits for an earlier one of its key.
CREATE TABLE claims (
    seq INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    until INTEGER NOT NULL,
    owner INTEGER NOT NULL, -- the subscriber; 0: nobody
    count INTEGER NOT NULL -- deliveries so far
);
CREATE INDEX claims_due ON claims (queue, until);
