SELECT run_id, attempt, ordinal, first_offset FROM attempt ORDER BY run_id, ordinal
