"""Delivery of encoded records to the log: over HTTP, or directly to Kafka."""
