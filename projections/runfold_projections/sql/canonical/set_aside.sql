SELECT topic, partition, log_offset, reason, message, record_key, value_size FROM set_aside ORDER BY topic, partition, log_offset
