"""Read models side by side: rebuilds, snapshots, comparison."""
