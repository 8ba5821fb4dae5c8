SELECT topic, partition, log_offset, event_id::text, entity, code, message, details::text FROM rejection ORDER BY topic, partition, log_offset
