"""How far the folds are, and how readers wait for them."""
