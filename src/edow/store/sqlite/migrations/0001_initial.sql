-- Executions, their histories and everything around them. Times are microseconds; JSON that only its author and
-- reader understand is a BLOB; `attributes` is TEXT because SQLite itself looks into it.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- `number` grows with every new execution and breaks ties in listings. The input of a run is not here but with its
-- history: rows are rewritten with every step and must stay small.
CREATE TABLE executions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    workflow TEXT NOT NULL,
    shard INTEGER NOT NULL,
    run INTEGER NOT NULL,
    status TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    wake_at INTEGER,
    ended_at INTEGER,
    events INTEGER NOT NULL,
    correlation TEXT NOT NULL,
    trace TEXT NOT NULL,
    result BLOB,
    failure BLOB,
    parent BLOB,
    progress BLOB,
    attributes TEXT
);

-- What the engine must look at next.
CREATE INDEX executions_due ON executions (shard, wake_at) WHERE status = 'running' AND wake_at IS NOT NULL;
-- Listings are newest first within a workflow and status; other orders are merged from these.
CREATE INDEX executions_by_workflow ON executions (workflow, status, started_at);
-- What retention takes away.
CREATE INDEX executions_ended ON executions (ended_at) WHERE ended_at IS NOT NULL;

-- The history: an append-only log and an index over it. Clustered by execution it would be read a little faster, but
-- every commit would dirty a page for every execution it touches. `seq` is the position of the segment's first event;
-- at -1 lies the run's input.
CREATE TABLE segments (
    execution TEXT NOT NULL,
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    count INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX segments_by_execution ON segments (execution, run, seq);

CREATE TABLE inbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused: the orchestrator remembers numbers it has read
    shard INTEGER NOT NULL,
    execution TEXT NOT NULL,
    command BLOB NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX inbox_by_shard ON inbox (shard);

-- Messages for a transport in another database, until they are known to be there. `shard`: whose owner, after a
-- crash, publishes them again.
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    shard INTEGER NOT NULL,
    topic TEXT NOT NULL,
    key TEXT,
    body BLOB NOT NULL
);

CREATE TABLE leases (
    shard INTEGER PRIMARY KEY,
    owner TEXT NOT NULL, -- empty: free
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL
);

-- Orchestrators that are alive, for an even spread of shards.
CREATE TABLE members (
    owner TEXT PRIMARY KEY,
    until INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE dead_letters (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    execution TEXT NOT NULL,
    run INTEGER NOT NULL,
    step TEXT NOT NULL,
    task TEXT NOT NULL,
    shard INTEGER NOT NULL,
    state TEXT NOT NULL,
    args BLOB NOT NULL,
    failure BLOB NOT NULL,
    attempts INTEGER NOT NULL,
    workflow TEXT NOT NULL,
    correlation TEXT NOT NULL,
    trace TEXT NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX dead_letters_by_state ON dead_letters (state, at);
CREATE INDEX dead_letters_by_execution ON dead_letters (execution);

-- What running attempts last reported.
CREATE TABLE heartbeats (
    execution TEXT NOT NULL,
    run INTEGER NOT NULL,
    step TEXT NOT NULL,
    details BLOB NOT NULL,
    PRIMARY KEY (execution, run, step)
) WITHOUT ROWID;
