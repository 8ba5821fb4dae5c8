"""Runs, from events to rows and answers."""
