SELECT run_id, ordinal, model_id, step FROM run_output ORDER BY run_id, ordinal
