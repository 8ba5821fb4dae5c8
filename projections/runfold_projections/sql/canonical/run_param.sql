SELECT run_id, key, value FROM run_param ORDER BY run_id, key
