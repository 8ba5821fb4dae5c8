"""Webhooks: a reaction that queues deliveries, and the tasks that send them."""
