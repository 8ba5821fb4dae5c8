"""Params are written once: the same value again changes nothing, another one is a conflict."""

from collections.abc import Mapping


def conflicts(known: Mapping[str, str], given: Mapping[str, str]) -> list[dict[str, str]]:
    """Where a param that is known would change, as MLflow's error lists them."""
    return [
        {"key": key, "old_value": known[key], "new_value": value}
        for key, value in given.items()
        if known.get(key, value) != value
    ]


def added(known: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Params that are not known yet."""
    return {key: value for key, value in given.items() if key not in known}
