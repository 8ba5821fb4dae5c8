"""The worker process: which partitions it has, what runs beside their folds, and how it answers to health checks."""
