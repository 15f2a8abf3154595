-- Executions, their histories and everything around them. Times are microseconds; JSON that only its author and
-- reader understand is bytea; `attributes` is text because listings look into it.
--
-- An index entry holds at most 2.7 kB, so ids of executions, steps and dead letters that are longer are shortened to a
-- unique key, which is what the columns here hold; then the whole of it is in a column of its own (`name`, `title`).

CREATE TABLE edow.meta (
    name text PRIMARY KEY,
    value bigint NOT NULL
);

-- `number` grows with every new execution and breaks ties in listings. The input of a run is not here but with its
-- history: rows are written again with every change and must stay small.
CREATE TABLE edow.executions (
    number bigint GENERATED ALWAYS AS IDENTITY,
    started_at bigint NOT NULL,
    wake_at bigint,
    ended_at bigint,
    shard integer NOT NULL,
    run integer NOT NULL,
    events integer NOT NULL,
    id text COLLATE "C" PRIMARY KEY,
    workflow text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    correlation text NOT NULL,
    trace text NOT NULL,
    name text, -- the id, where it is too long to be its own key
    result bytea,
    failure bytea,
    parent bytea,
    progress bytea,
    attributes text
) WITH (fillfactor = 80);

-- What the engine must look at next.
CREATE INDEX executions_due ON edow.executions (shard, wake_at) WHERE status = 'running' AND wake_at IS NOT NULL;
-- Listings are newest first within a workflow and status; other orders are merged from these.
CREATE INDEX executions_by_workflow ON edow.executions (workflow, status, started_at, number);
-- What retention takes away.
CREATE INDEX executions_ended ON edow.executions (ended_at) WHERE ended_at IS NOT NULL;

-- The history. `seq` is the position of the segment's first event; at -1 lies the run's input.
CREATE TABLE edow.segments (
    execution text COLLATE "C" NOT NULL,
    run integer NOT NULL,
    seq integer NOT NULL,
    count integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (execution, run, seq)
);

-- A command's number is its `seq` and its shard in one: seq * 1024 + shard.
CREATE TABLE edow.inbox (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    at bigint NOT NULL,
    shard integer NOT NULL,
    execution text NOT NULL, -- its whole id
    command bytea NOT NULL,
    PRIMARY KEY (shard, seq)
);
ALTER TABLE edow.inbox ALTER COLUMN command SET STORAGE EXTERNAL;

-- Messages for a transport in another database, until they are known to be there. `shard`: whose owner, after a
-- crash, publishes them again; `stamp`: of the commit.
CREATE TABLE edow.outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stamp bigint NOT NULL,
    shard integer NOT NULL,
    topic text NOT NULL,
    key bytea,
    body bytea NOT NULL
);
ALTER TABLE edow.outbox ALTER COLUMN body SET STORAGE EXTERNAL;

-- `stamp` is that of the newest commit of whoever holds the shard: a commit that is tried again, because its answer
-- was lost, must not be applied twice.
CREATE TABLE edow.leases (
    shard integer PRIMARY KEY,
    owner text NOT NULL, -- empty: free
    epoch bigint NOT NULL,
    until bigint NOT NULL,
    stamp bigint NOT NULL
) WITH (fillfactor = 20);

-- Orchestrators that are alive, for an even spread of shards.
CREATE TABLE edow.members (
    owner text PRIMARY KEY,
    until bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE edow.dead_letters (
    number bigint GENERATED ALWAYS AS IDENTITY,
    at bigint NOT NULL,
    run integer NOT NULL,
    shard integer NOT NULL,
    attempts integer NOT NULL,
    id text COLLATE "C" PRIMARY KEY,
    title text NOT NULL, -- the id as a person knows it
    execution text COLLATE "C" NOT NULL,
    name text NOT NULL, -- the execution's whole id
    step text NOT NULL,
    task text NOT NULL,
    state text COLLATE "C" NOT NULL,
    workflow text NOT NULL,
    correlation text NOT NULL,
    trace text NOT NULL,
    reason text NOT NULL,
    args bytea NOT NULL,
    failure bytea NOT NULL,
    error text NOT NULL -- type and message of the failure, a line each, to be searched
);
CREATE INDEX dead_letters_by_state ON edow.dead_letters (state, at);
CREATE INDEX dead_letters_by_execution ON edow.dead_letters (execution);

-- What running attempts last reported.
CREATE TABLE edow.heartbeats (
    execution text COLLATE "C" NOT NULL,
    run integer NOT NULL,
    step text COLLATE "C" NOT NULL,
    title text NOT NULL, -- the step as a person knows it
    details bytea NOT NULL,
    PRIMARY KEY (execution, run, step)
) WITH (fillfactor = 70);

-- Rows of these come and go by the thousand: their pages are to be used again soon, and never given back to the file
-- system, which would need a lock that stops everybody.
ALTER TABLE edow.inbox SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000, vacuum_truncate = off
);
ALTER TABLE edow.outbox SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000, vacuum_truncate = off
);
ALTER TABLE edow.leases SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);
ALTER TABLE edow.executions SET (autovacuum_vacuum_scale_factor = 0.05);
