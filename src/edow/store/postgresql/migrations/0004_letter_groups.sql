-- Dead letters by what they have in common, and those that are set aside: `lot` says why, and is empty for others.

ALTER TABLE edow.dead_letters ADD COLUMN fingerprint text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE edow.dead_letters ADD COLUMN lot text NOT NULL DEFAULT '';
CREATE INDEX dead_letters_by_group ON edow.dead_letters (state, fingerprint, (lot <> ''), at);

-- After `bury`, in the same statement.
CREATE FUNCTION edow.tag(_ids text[], _fingerprints text[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    UPDATE edow.dead_letters AS l SET fingerprint = x.fingerprint, lot = ''
    FROM unnest(_ids, _fingerprints) AS x (id, fingerprint) WHERE l.id = x.id;
END $$;
