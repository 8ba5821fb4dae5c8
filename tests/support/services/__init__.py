"""Kafka, Postgres and S3 for tests: shared by the session, or of one test's own."""
