"""The spool: on-disk storage for events that are not acknowledged. docs/adr/0011-spool.md explains the layout."""
