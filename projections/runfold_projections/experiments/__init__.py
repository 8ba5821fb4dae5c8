"""Experiments, from events to rows and answers."""
