-- What store and transport share.

-- Everything in the transaction under way may be lost when the server crashes, together with all that comes after it.
CREATE FUNCTION edow.lax() RETURNS void LANGUAGE sql AS $$
    SELECT set_config('synchronous_commit', 'off', true)
$$;
