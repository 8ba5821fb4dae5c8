"""Measure what `run.log` costs the training thread.

Calls carry 1 or 100 scalars, with the server up or away, in a tight loop and at 100 calls a second.

`python benchmarks/sdk_latency.py [--url http://…] [--seconds 20]`: without a URL, the server is a double in another
process that accepts everything. Times are percentiles in microseconds. `slow` counts calls of more than 200 us, and the
share of their time in which the thread waited (for the GIL, a lock of ours, or a core). `calls` and `threads` are the
shares of a training loop at 100 calls a second that log calls and (CPU) our threads take; their sum bounds the
slowdown.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
DOUBLE = """import time; from tests.support.doubles.event_server import event_server
with event_server() as server:
    print(server.uri, flush=True)
    time.sleep(3600)
"""
AWAY = "http://127.0.0.1:9"
SLOW = 200e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a server that runs; without it, a double")
    parser.add_argument("--seconds", type=float, default=20, help="how long each paced measurement takes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runfold-latency-") as spool:
        os.environ.update(
            OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", RUNFOLD_SPOOL_DIR=spool, RUNFOLD_FINISH_TIMEOUT="5"
        )
        env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        double = None
        if given.url is None:
            double = subprocess.Popen([sys.executable, "-c", DOUBLE], stdout=subprocess.PIPE, text=True, env=env)
            assert double.stdout is not None
            given.url = double.stdout.readline().strip()
        try:
            print(
                f"{'server':<7} {'scalars':>7} {'loop':<6} {'calls':>8} {'p50':>8} {'p99':>8} {'p99.9':>8} "
                f"{'max':>9} {'slow':>6} waited     calls  threads"
            )
            for server, url in (("up", given.url), ("away", AWAY)):
                for width in (1, 100):
                    measure(server, url, width, given.seconds)
        finally:
            if double is not None:
                double.kill()
                double.wait()


def measure(server: str, url: str, width: int, seconds: float) -> None:
    """One line for a tight loop, one for a paced one."""
    import runfold

    metrics = {f"layer/{n}/loss": 0.5 * n for n in range(width)}
    with runfold.run(tracking_uri=url) as run:
        run.log(metrics)
        show(server, width, "tight", [cost(run, metrics, n) for n in range(200_000 if width == 1 else 50_000)], "")
        run._writer._flusher.save()
        paced(server, run, metrics, width, seconds)


def paced(server, run, metrics, width: int, seconds: float) -> None:  # type: ignore[no-untyped-def]
    """Measure the share of time that log calls and our threads take in a NumPy loop of 100 calls a second."""
    import numpy as np

    a = np.random.default_rng(0).random((100, 100))
    costs: list[tuple[float, float]] = []
    began, cpu, mine = time.perf_counter(), time.process_time(), time.thread_time()
    for step in range(int(seconds * 100)):
        while time.perf_counter() - began < step / 100:
            a = a @ a
            a /= a.max()
        costs.append(cost(run, metrics, step))
    elapsed = time.perf_counter() - began
    ours = time.process_time() - cpu - (time.thread_time() - mine)
    show(server, width, "paced", costs, f"{sum(took for took, _ in costs) / elapsed:8.3%} {ours / elapsed:8.3%}")


def cost(run, metrics, step: int) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Seconds that the call took, and those that this thread computed meanwhile."""
    computed, before = time.thread_time(), time.perf_counter()
    run.log(metrics, step=step)
    took = time.perf_counter() - before
    return took, time.thread_time() - computed


def show(server: str, width: int, loop: str, costs: list[tuple[float, float]], slower: str) -> None:
    ordered = sorted(took for took, _ in costs)
    points = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1e6 for part in (0.5, 0.99, 0.999)]
    slow = [(took, max(0.0, took - computed)) for took, computed in costs if took > SLOW]
    waited = sum(part for _, part in slow) / (sum(took for took, _ in slow) or 1.0)
    print(
        f"{server:<7} {width:>7} {loop:<6} {len(ordered):>8} {points[0]:>8.1f} {points[1]:>8.1f} {points[2]:>8.1f} "
        f"{ordered[-1] * 1e6:>9.0f} "
        f"{len(slow):>6} {waited:>6.0%}  {slower}",
        flush=True,
    )


if __name__ == "__main__":
    main()
