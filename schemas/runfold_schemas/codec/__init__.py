"""From bytes to events and back: Avro bodies, CloudEvents headers, the catalog of released schemas."""
