SELECT run_id, key, value FROM run_tag ORDER BY run_id, key
