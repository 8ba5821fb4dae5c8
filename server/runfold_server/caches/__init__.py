"""What a server remembers between requests, and requests that share one answer."""
