SELECT partition, entity, writer, bounds FROM sequence ORDER BY entity, writer COLLATE "C"
