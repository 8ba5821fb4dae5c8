"""Series drawn into a grid, aggregated and smoothed."""
