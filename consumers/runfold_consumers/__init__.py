"""Async workers that read the log. One runtime for all: leases, batches, fenced commits, waiting out what is away."""
