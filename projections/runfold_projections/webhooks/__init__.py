"""Webhooks, their payloads and deliveries."""
