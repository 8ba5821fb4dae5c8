"""How answers are found: ends of the log, progress of the folds, snapshots that have passed a position, moments and pasts."""
