"""The read-only part of Confluent's schema registry protocol."""
