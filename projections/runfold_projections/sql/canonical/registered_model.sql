SELECT born, workspace, name, description, created_ms, updated_ms, renamed_ms, last_version, is_prompt FROM registered_model ORDER BY born
