"""Folding of one partition, and the contract of reactions."""
