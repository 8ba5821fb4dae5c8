"""What the fields of requests to the registry mean; see `meanings.py`."""

from collections.abc import Mapping

_NAME = "Name of the registered model: at most 256 characters, no `/` and no `:`."

MEANINGS: Mapping[str, str] = {
    **{f"registered-models/{call}.name": _NAME for call in ("create", "get")},
    "description": "What is to be said of it.",
}
"""Meanings by `path.field`, or by the field alone."""
