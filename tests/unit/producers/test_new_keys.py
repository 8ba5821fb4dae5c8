"""Trainings that log ever new keys: what is remembered of them in the training's process stays small."""

import gc
import tracemalloc

from runfold.pipeline.rows import RowReader


def test_memory_of_checked_keys_is_bounded_by_bytes_and_not_by_their_number() -> None:
    reader = RowReader()
    reader.read({"warm": 1.0})
    gc.collect()
    tracemalloc.start()
    try:
        before, most = tracemalloc.get_traced_memory()[0], 0
        for n in range(60_000):
            reader.read({f"{n}/".ljust(250, "x"): 1.0, f"{n}/loss".ljust(250, "x"): 2.0})
            if n % 5_000 == 0:
                most = max(most, tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    assert most < 25_000_000
    keys, row = reader.read({"warm": 1.0})
    assert (keys.names, list(row)) == (("warm",), [1.0])
