"""One partition at a time: read, decode, hand to a handler, save the checkpoint."""
