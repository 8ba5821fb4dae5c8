"""Projectors: what loads the state that a batch touches, folds the batch, and writes what changed. One per projection."""
