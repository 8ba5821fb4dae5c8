"""The one way to Kafka: topics, the writer, the producer, readers and where the log ends."""
