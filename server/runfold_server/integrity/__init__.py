"""Whether the store's bytes are those that the log describes: checked on every download, and in the background."""
