"""Generated logs, and the models that say what they must fold to."""
