"""What logging costs a real training loop: PyTorch at 100 steps a second, a log call in each. `make bench-torch`.

One process trains; stretches of steps with log calls and without take turns, so that noise meets both, and the order
within a pair changes. The figure is the median over the pairs of (time with / time without - 1). `nothing` compares
stretches that both do not log: what the noise makes of no difference at all. Everything else of Runfold runs beside it
where the server is `up`; `away` is an address where nobody listens.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCH = ROOT / ".bench" / "torch" / "bin" / "python"
AWAY = "http://127.0.0.1:9"


def timed(step) -> float:  # type: ignore[no-untyped-def]
    began = time.perf_counter()
    step(0)
    return time.perf_counter() - began


def train(url: str, width: int, pairs: int, steps: int) -> None:
    """Run in PyTorch's environment; print the slowdown in percent by wall clock and by the process's CPU time."""
    import torch
    from torch import nn

    import runfold

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 10))
    optimizer = torch.optim.Adam(model.parameters())
    inputs, targets = torch.randn(4096, 256), torch.randint(10, (4096,))
    batch = 4

    def step(number: int) -> float:
        at = number * batch % (4096 - batch)
        loss = nn.functional.cross_entropy(model(inputs[at : at + batch]), targets[at : at + batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    # A batch whose step takes some 10 ms when nothing disturbs it: 100 steps a second.
    while (took := min(timed(step) for _ in range(30))) < 0.0095 and batch < 2000:
        batch = min(2000, int(batch * max(1.05, min(2.0, 0.0095 / took))))

    with runfold.run("torch loop", tracking_uri=url) as run:
        names = [f"layer/{n}/norm" for n in range(width - 1)]

        def stretch(logs: bool) -> tuple[float, float]:
            began, cpu = time.perf_counter(), time.process_time()
            for number in range(steps):
                loss = step(number)
                if logs:
                    run.log({"loss": loss, **dict.fromkeys(names, loss)})
            return time.perf_counter() - began, time.process_time() - cpu

        stretch(True)
        ratios: list[tuple[float, float]] = []
        nothing: list[float] = []
        for pair in range(pairs):
            order = (True, False, False) if pair % 2 else (False, False, True)
            found = [stretch(logs) for logs in order]
            with_ = found.pop(order.index(True))
            plain, again = found
            ratios.append((2 * with_[0] / (plain[0] + again[0]) - 1, 2 * with_[1] / (plain[1] + again[1]) - 1))
            nothing.append(again[0] / plain[0] - 1)
        rate = steps / min(plain[0], again[0])
        wall, cpu = (statistics.median(r[n] for r in ratios) for n in (0, 1))
        spread = statistics.quantiles([r[0] for r in ratios], n=4)
        print(
            f"{width:>7} {rate:>8.0f} {wall:>9.2%} {spread[0]:>8.2%} {spread[2]:>8.2%} "
            f"{cpu:>9.2%} {statistics.median(nothing):>9.2%}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=100, help="of a stretch")
    parser.add_argument("--train", nargs=2, metavar=("URL", "WIDTH"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train:
        train(given.train[0], int(given.train[1]), given.pairs, given.steps)
        return
    import asyncio

    from machine import describe

    from runfold_stack.config.settings import load_settings
    from runfold_stack.programs.up import runfold_up

    async def measure() -> None:
        print(
            f"{'server':<7} {'scalars':>7} {'steps/s':>8} {'slower':>9} {'25 %':>8} {'75 %':>8} "
            f"{'CPU':>9} {'nothing':>9}",
            flush=True,
        )
        with tempfile.TemporaryDirectory(prefix="runfold-torch-") as folder:
            settings = load_settings(data_dir=Path(folder) / "data", port=0)
            env = {
                **os.environ,
                "RUNFOLD_SPOOL_DIR": f"{folder}/spool",
                "OMP_NUM_THREADS": "1",
                "RUNFOLD_FINISH_TIMEOUT": "5",
            }
            async with runfold_up(settings, lambda *_: None) as running:
                for server, url in (("up", running.url), ("away", AWAY)):
                    for width in (1, 100):
                        arguments = [
                            "--train",
                            url,
                            str(width),
                            "--pairs",
                            str(given.pairs),
                            "--steps",
                            str(given.steps),
                        ]
                        print(f"{server:<7} ", end="", flush=True)
                        process = await asyncio.create_subprocess_exec(
                            TORCH, __file__, *arguments, env=env, stderr=subprocess.DEVNULL
                        )
                        assert await process.wait() == 0

    print(describe(), file=sys.stderr)
    asyncio.run(measure())


if __name__ == "__main__":
    main()
