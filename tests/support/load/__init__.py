"""Clients and trainers that write much, and keep books about it."""
