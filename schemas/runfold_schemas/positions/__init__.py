"""Where a record is in the log, and how far a reader has come."""
