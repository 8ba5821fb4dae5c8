"""The spool: what a run logged and nobody acknowledged yet, on disk. See docs/adr/0011-spool.md for the layout and why."""
