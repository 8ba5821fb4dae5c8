"""What programs that are not ours get of the log: its schemas by a registry's protocol, its events as a stream, both described."""
