SELECT run_id, number, attempt, rank, step, opens, writer, sequence, log_offset, event_id::text FROM cut ORDER BY run_id, number
