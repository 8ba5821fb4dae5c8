SELECT run_id, ordinal, name, digest, source_type, source, schema, profile, tags::text FROM run_dataset ORDER BY run_id, ordinal
