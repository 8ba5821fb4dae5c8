"""Exports to Parquet files and imports from them."""
