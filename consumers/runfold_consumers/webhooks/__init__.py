"""Webhooks: a reaction that queues what is to be told, and who tells it."""
