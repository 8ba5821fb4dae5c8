"""All event classes of the contract, and events as JSON."""

import math
from array import array
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from .base import Fact
from .metrics import MetricsLogged

Event = Fact | MetricsLogged


def _event_classes() -> Iterator[type[Fact]]:
    """Yield the `EVENTS` of every module of this folder, so that adding a module registers its events."""
    for module in sorted(iter_modules([str(Path(__file__).parent)]), key=lambda found: found.name):
        if module.name != __name__.rpartition(".")[2]:
            yield from getattr(import_module(f"{__package__}.{module.name}"), "EVENTS", ())


FACTS: dict[str, type[Fact]] = {cls.subject: cls for cls in _event_classes()}
"""Event classes by subject, without MetricsLogged, which has a codec of its own."""


def as_json(event: Event) -> dict[str, object]:
    """Fields as JSON-ready values; not-a-number and infinities become the strings NaN, Infinity, -Infinity."""
    if isinstance(event, Fact):
        return event.model_dump(by_alias=True)
    return {
        "run_id": event.run_id,
        "frames": [
            {
                "keys": list(f.keys),
                "steps": list(f.steps),
                "times": list(f.times),
                "values": _finite_json(f.values),
                **({"model_id": f.model_id} if f.model_id is not None else {}),
                **({"dataset_name": f.dataset_name} if f.dataset_name is not None else {}),
                **({"dataset_digest": f.dataset_digest} if f.dataset_digest is not None else {}),
            }
            for f in event.frames
        ],
    }


def _finite_json(values: "array[float]") -> list[float | str]:
    return [v if math.isfinite(v) else "NaN" if v != v else "Infinity" if v > 0 else "-Infinity" for v in values]
