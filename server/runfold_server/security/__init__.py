"""Checks of every request before routing, and limits of what one client may hold open."""
