SELECT webhook_id, workspace, name, url, kinds, description, active, born, created_ms, updated_ms, is_deleted FROM webhook ORDER BY webhook_id
