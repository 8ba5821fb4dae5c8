"""From a batch of records to one transaction."""
