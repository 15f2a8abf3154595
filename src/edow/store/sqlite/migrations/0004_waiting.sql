-- Among what runs or is parked, what waits to try a step again, and what somebody has paused: few of many. A row's
-- failure is written with its type first.

CREATE INDEX executions_retrying ON executions (workflow, started_at) WHERE status = 'running' AND failure IS NOT NULL;
CREATE INDEX executions_paused ON executions (workflow, started_at)
WHERE status = 'parked' AND substr(failure, 1, 21) = x'7b2274797065223a2265646f772e50617573656422';
