SELECT run_id, ordinal, model_id FROM run_model ORDER BY run_id, ordinal
