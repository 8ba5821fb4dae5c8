SELECT model_id, workspace, experiment_id, name, artifact_uri, model_type, source_run_id, status, lifecycle_stage, created_ms, updated_ms, created_by::text FROM logged_model ORDER BY model_id
