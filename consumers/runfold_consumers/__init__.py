"""Async workers that fold the log: leases, batches, fenced commits, retries, and reactions."""
