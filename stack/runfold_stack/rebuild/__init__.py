"""The commands about generations and pasts."""
