"""From `run.log` to the spool and from the spool to a transport; each step has one thread and one bound."""
