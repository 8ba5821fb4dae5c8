"""The answer of a fold that rejects an event."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class RejectionCode(StrEnum):
    """Why a fold rejects an event. Each slice derives an enumeration of its own codes; a code is used by one slice
    only.

    Codes are stored, counted, and mapped to errors by the APIs: they never change their meaning.
    """


@dataclass(frozen=True, slots=True)
class Rejection:
    """The event changes nothing. `details` holds what a caller needs to phrase the error itself."""

    code: RejectionCode
    message: str
    details: dict[str, Any] = field(default_factory=dict)
