"""Ways that events take to the log: over HTTP, or straight to Kafka."""
