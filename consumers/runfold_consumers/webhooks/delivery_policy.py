"""How webhooks reach their receivers."""

from dataclasses import dataclass

ATTEMPTS = 12
"""With pauses that double from a second, the last attempt comes about half an hour after the first."""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """Which receivers are reached, and how often. `timeout` bounds one attempt, in seconds."""

    schemes: frozenset[str] = frozenset({"https"})
    private: bool = False
    """Whether addresses that are not public are allowed."""
    timeout: float = 10.0
    attempts: int = ATTEMPTS
    """Attempts before a delivery counts as failed."""
