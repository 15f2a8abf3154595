-- Among what runs or is parked, what waits to try a step again, and what somebody has paused: few of many. A row's
-- failure is written with its type first.

CREATE INDEX executions_retrying ON edow.executions (workflow, started_at, number)
WHERE status = 'running' AND failure IS NOT NULL;
CREATE INDEX executions_paused ON edow.executions (workflow, started_at, number)
WHERE status = 'parked' AND substring(failure, 1, 21) = '\x7b2274797065223a2265646f772e50617573656422'::bytea;
