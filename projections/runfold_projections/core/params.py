"""Params are written once: the same value again changes nothing, another value is a conflict."""

from collections.abc import Mapping


def conflicts(known: Mapping[str, str], given: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the known params that would change, as MLflow's error lists them."""
    return [
        {"key": key, "old_value": known[key], "new_value": value}
        for key, value in given.items()
        if known.get(key, value) != value
    ]


def added(known: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the params that are new."""
    return {key: value for key, value in given.items() if key not in known}
