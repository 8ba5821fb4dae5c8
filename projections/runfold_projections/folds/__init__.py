"""Pure folds: state and event in, state or rejection out. No clock, no randomness, no database, no other partition."""
