SELECT run_id, partition, experiment_id, name, user_id, status, start_ms, end_ms, lifecycle_stage, deleted_ms, artifact_uri, created_by::text FROM run ORDER BY run_id
