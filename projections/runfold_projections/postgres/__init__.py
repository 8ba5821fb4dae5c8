"""Connections, statements and notifications."""
