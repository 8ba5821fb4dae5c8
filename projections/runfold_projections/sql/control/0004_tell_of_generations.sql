-- Workers hear of every change at once: who takes over what was switched, or what is to be held, must not wait for its next look.
CREATE FUNCTION tell_of_generations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_TABLE_SCHEMA || '_generations', '');
    RETURN NULL;
END $$;
CREATE TRIGGER generation_changed AFTER INSERT OR UPDATE OR DELETE ON generation
    FOR EACH STATEMENT EXECUTE FUNCTION tell_of_generations();
