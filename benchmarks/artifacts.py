"""Measure the speed of one large file up and down through the server, and the server's memory meanwhile.

`make bench-artifacts`.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from machine import describe

from runfold_stack.config.settings import load_settings
from runfold_stack.programs.up import runfold_up

MB = 1024 * 1024
ROOT = f"/api/2.0/mlflow-artifacts/artifacts/0/{'b' * 32}/artifacts"
SMALL_FILES = 500


async def main(megabytes: int) -> None:
    """Print the figures."""
    print(describe())
    with tempfile.TemporaryDirectory(prefix="runfold-bench-") as directory:
        async with runfold_up(load_settings(data_dir=Path(directory), port=0, partitions=2)) as up:
            await asyncio.to_thread(measure, up.url, up.stack.pid("server"), megabytes)


def measure(url: str, pid: int, megabytes: int) -> None:
    """One large file, then many small ones."""
    block = os.urandom(MB)

    def body() -> Iterator[bytes]:
        for _ in range(megabytes):
            yield block

    with httpx2.Client(base_url=url, timeout=3600, trust_env=False) as client:
        client.put(f"{ROOT}/warm", content=block).raise_for_status()
        client.get(f"{ROOT}/warm").raise_for_status()
        idle = memory(pid, "VmHWM")
        began = time.perf_counter()
        client.put(f"{ROOT}/large", content=body()).raise_for_status()
        up = time.perf_counter() - began
        after_up = memory(pid, "VmHWM")
        began = time.perf_counter()
        with client.stream("GET", f"{ROOT}/large") as answer:
            size = sum(len(chunk) for chunk in answer.iter_bytes())
        down = time.perf_counter() - began
        assert size == megabytes * MB
        after_down = memory(pid, "VmHWM")

        def small(number: int) -> float:
            start = time.perf_counter()
            client.put(f"{ROOT}/small/{number}", content=b"x" * 10_000).raise_for_status()
            return time.perf_counter() - start

        began = time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            times = sorted(pool.map(small, range(SMALL_FILES)))
        spent = time.perf_counter() - began
    print(f"up    {megabytes} MB in {up:.1f} s, {megabytes / up:.0f} MB/s; server's peak {idle} -> {after_up} MB")
    print(f"down  {megabytes} MB in {down:.1f} s, {megabytes / down:.0f} MB/s; server's peak -> {after_down} MB")
    print(
        f"small {SMALL_FILES} of 10 kB from 8 threads: {SMALL_FILES / spent:.0f}/s, "
        f"p50 {times[len(times) // 2] * 1000:.0f} ms, p99 {times[len(times) * 99 // 100] * 1000:.0f} ms"
    )


def memory(pid: int, field: str) -> int:
    """Of a process, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) // 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    asyncio.run(main(parser.parse_args().megabytes))
