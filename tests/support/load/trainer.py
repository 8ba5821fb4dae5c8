"""A training process whose every value follows from where it stands: `trainer.py EXPERIMENT FIRST_STEP KEYS PAUSE`.

It logs row after row until its input ends, and tells of each: step, time before and after the call (ms), points on
disk, points that arrived. First it tells the directory of its spool, at the end `ended`, the step behind its last one,
and how many points were refused.
"""

import os
import sys
import threading
import time
import zlib

import runfold


def keys_of(count: int) -> list[str]:
    """Names of the metrics that a trainer logs."""
    return [f"net/layer{n}/grad_norm" for n in range(count)]


def base_of(run_id: str, rank: int, key: str) -> float:
    """What is added to a step to have the value there: exact, and another one for each series."""
    return float(zlib.crc32(f"{run_id} {rank} {key}".encode()) << 20)


def _await_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def main(experiment: str, first: int, count: int, pause: float) -> None:
    stop = threading.Event()
    threading.Thread(target=_await_end_of_input, args=(stop,), daemon=True).start()
    rank, keys = int(os.environ["RUNFOLD_RANK"]), keys_of(count)
    with runfold.run(experiment) as run:
        print(run.spool, flush=True)
        bases = {key: base_of(run.id, rank, key) for key in keys}
        step = first
        while not stop.is_set():
            before = _now()
            # Now and then as an array, which goes another way through the client.
            if step % 8 == 7:
                run.log_rows(keys, [step], [[base + step for base in bases.values()]])
            else:
                run.log({key: base + step for key, base in bases.items()}, step=step)
            saved, arrived = run._writer._spool.points, run._writer.outbox.points
            print(step, before, _now(), saved, arrived, flush=True)
            step += 1
            stop.wait(pause)
    print("ended", step, run.refused, flush=True)


def _now() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
