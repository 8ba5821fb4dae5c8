"""Detection of the launcher: which process of which job this is."""
