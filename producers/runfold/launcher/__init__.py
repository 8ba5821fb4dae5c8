"""Which process of which job this is, by what its launcher left in the environment."""
