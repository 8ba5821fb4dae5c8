SELECT topic, partition, log_id, genesis_id::text, next_offset FROM checkpoint ORDER BY topic, partition
