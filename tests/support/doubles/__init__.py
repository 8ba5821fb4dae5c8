"""Doubles of servers that Runfold talks to, and hostile input."""
