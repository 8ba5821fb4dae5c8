SELECT born, version, log_offset, source, storage_location, run_id, run_link, model_id, description, stage, created_ms, updated_ms FROM model_version ORDER BY born, version
