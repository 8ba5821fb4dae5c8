SELECT experiment_id, workspace, name, artifact_location, lifecycle_stage, created_ms, updated_ms, created_by::text FROM experiment ORDER BY experiment_id
