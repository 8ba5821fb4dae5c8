"""How metric points lie at rest: bytes a point, and points a second, of segments and packs. `make bench-packs`."""

import time
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
from machine import describe
from rich.console import Console
from rich.table import Table

from runfold_projections.segments.compacted import CompactedSegment
from runfold_projections.segments.compacted_builder import build_located
from runfold_projections.segments.level0 import decode_located, encode_level0
from runfold_schemas.events.frames import Frame

SHAPES = (
    (1, 1, 10_000),
    (1, 10, 1000),
    (1, 1000, 100),
    (100, 10, 500),
    (100, 10_000, 1),
    (9_500, 1, 32),
    (9_500, 64, 1),
)
"""Keys, rows a frame, frames."""
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the work gives, and its seconds."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def frames(keys: int, rows: int, count: int, numbers: type) -> list[Frame]:
    """Frames of noise with names of 45 bytes."""
    rng = np.random.default_rng(1)
    names = tuple(f"metrics/layer_{n:05}/gradient_norm_of_all_weights"[:45] for n in range(keys))
    return [
        Frame(
            names,
            array("q", range(n * rows, (n + 1) * rows)),
            array("q", range(n * rows * 25, (n + 1) * rows * 25, 25)),
            array("d", rng.normal(size=keys * rows).astype(numbers).astype(np.float64).tobytes()),
        )
        for n in range(count)
    ]


def _packed(logged: list[Any], offsets: list[int]) -> list[bytes]:
    return [encode_level0([frame], [[(offset, frame.rows)]]) for frame, offset in zip(logged, offsets, strict=True)]


def _frames(packs: list[Any]) -> list[Any]:
    return [list(CompactedSegment.from_data(one.head, one.data).frames()) for one in packs]


def _column(home: Any, key: str) -> list[Any]:
    return list(CompactedSegment.from_data(home.head, home.data).column(key))


def main() -> None:
    """Print one table."""
    table = Table(
        "keys x rows x frames",
        "values",
        "new B/pt",
        "new M/s",
        "pack B/pt",
        "build M/s",
        "read M/s",
        "one key ms",
        box=None,
    )
    for shape in SHAPES:
        keys, rows, count = shape
        for numbers in (np.float64, np.float32):
            logged = frames(*shape, numbers)
            million = keys * rows * count / 1e6
            # Each frame an event of its own, among those of other runs.
            at = np.random.default_rng(2).integers(1, 20, count).cumsum().tolist()
            fresh, packing = timed(partial(_packed, logged, at))
            read = [dated for data in fresh for dated in decode_located(data)]
            packs, building = timed(partial(build_located, read))
            _, reading = timed(partial(_frames, packs))
            key = logged[0].keys[keys // 2]
            (home,) = [p for p in packs if p.first_key <= key <= p.last_key]
            _, one = timed(partial(_column, home, key))
            table.add_row(
                "x".join(map(str, shape)),
                numbers.__name__,
                f"{sum(map(len, fresh)) / million / 1e6:.1f}",
                f"{million / packing:.1f}",
                f"{sum(len(p.data) for p in packs) / million / 1e6:.2f}",
                f"{million / building:.1f}",
                f"{million / reading:.1f}",
                f"{one * 1e3:.2f}",
            )
    print(f"# {describe()}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
