"""The worker process: leases, partition tasks, the work beside them, and health checks."""
