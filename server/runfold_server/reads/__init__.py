"""Reads of the read models at a consistency the caller chose."""
