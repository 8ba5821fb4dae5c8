"""Live streams: one reader of the log for all who follow it."""
