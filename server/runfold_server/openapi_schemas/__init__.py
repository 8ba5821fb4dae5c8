"""JSON schemas of the answers."""
