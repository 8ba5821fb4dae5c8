"""What happened to an entity, why a value is what it is, and how two moments differ."""
