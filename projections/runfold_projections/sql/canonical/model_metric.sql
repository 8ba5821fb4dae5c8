SELECT model_id, run_id, key, dataset_name, dataset_digest, time_ms, step, value, least, most FROM model_metric ORDER BY model_id, key, run_id, dataset
