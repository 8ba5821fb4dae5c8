"""What all of the server shares: settings, errors, metrics."""
