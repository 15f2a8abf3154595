-- Letters that belong to no execution do not leave with one: what is old is found by when it failed.

CREATE INDEX dead_letters_of_none ON edow.dead_letters (at) WHERE execution = '';

-- Close letters in the transaction of what is done about them, which is not done unless each of them waited for it.
-- They come in the order of their ids, so nobody waits in a circle.
CREATE FUNCTION edow.settle(_ids text[], _states text[], _reasons text[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    FOR i IN 1 .. cardinality(_ids) LOOP
        UPDATE edow.dead_letters AS l SET state = _states[i], reason = _reasons[i]
        WHERE l.id = _ids[i] AND l.state = 'parked';
        CONTINUE WHEN FOUND;
        RAISE EXCEPTION 'a dead letter was acted on' USING ERRCODE = 'ED006', DETAIL = i::text;
    END LOOP;
END $$;
