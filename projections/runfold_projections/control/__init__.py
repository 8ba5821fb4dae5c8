"""What Postgres alone knows: migrations, leases, cursors."""
