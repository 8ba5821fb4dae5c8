SELECT experiment_id, key, value FROM experiment_tag ORDER BY experiment_id, key
