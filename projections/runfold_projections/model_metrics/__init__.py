"""Metrics of logged models: joined per key, or in blocks of keys."""
