"""Settings, and what all programs share."""
