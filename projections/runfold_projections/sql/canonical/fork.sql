SELECT run_id, parent_run_id, parent_branch, step, log_offset, event_id::text FROM fork ORDER BY run_id
