SELECT run_id, attempt, world_size, start_step, log_offset, started_ms FROM attempt_start ORDER BY run_id, attempt
