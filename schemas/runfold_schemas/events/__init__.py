"""Typed events, by the entity they are about."""
