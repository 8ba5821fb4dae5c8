"""Reads over the live views. Every function takes a connection that stands in a snapshot; none waits for anything."""
