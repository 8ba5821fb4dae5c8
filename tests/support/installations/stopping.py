"""SIGSTOP that has taken effect: until every thread stands still, a process may still answer."""

import os
import signal
import time
from pathlib import Path


def stop_process(pid: int) -> None:
    """Stop a process and return once all of its threads stand still."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    while threads.exists() and not all(_state(thread) in "tTZ" for thread in threads.iterdir()):
        time.sleep(0.001)


def _state(thread: Path) -> str:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"  # it has ended
