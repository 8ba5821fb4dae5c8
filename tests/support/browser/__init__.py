"""A real browser, to see what a page may do."""
