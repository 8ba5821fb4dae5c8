"""The journal of changes, and what an entity was at a moment."""
