SELECT run_id, key, value, step, time_ms, min_value, max_value, model_id, dataset_name, dataset_digest FROM metric ORDER BY run_id, key
