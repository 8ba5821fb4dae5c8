"""The log itself: appending events, positions, event streams."""
