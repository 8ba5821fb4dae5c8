"""Runs and their points as a folder of Parquet files, out of one installation and into another. Needs the `export` extra."""
