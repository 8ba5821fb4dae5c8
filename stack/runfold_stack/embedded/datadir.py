"""The data directory: what lies where, who holds it, and where its services answer.

lock          held (flock) for as long as a stack runs; its pid is written in it
stack.json    addresses of the running stack; removed by a clean stop
ports.json    the ports of the last start, kept so that addresses stay the same
kafka/ postgres/ s3/ logs/

Only the user who started the stack can look into any of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runfold_stack.errors import DataDirInUse
from runfold_stack.supervision.process import private_opener

if TYPE_CHECKING:
    from collections.abc import Iterator

# `read_running` holds the lock for an instant to see whether it is free; a starter must not take that for a running
# stack.
LOCK_PATIENCE_SECONDS = 0.3


@dataclass(frozen=True)
class StackFile:
    """What a running stack publishes for other processes; an address is None where that part is not ours."""

    pid: int
    kafka: str | None = None
    postgres: str | None = None
    namespace: str | None = None
    server: str | None = None
    worker: str | None = None
    s3: str | None = None
    ports: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DataDir:
    """The paths below one data directory."""

    root: Path

    @property
    def kafka(self) -> Path:
        return self.root / "kafka"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def s3(self) -> Path:
        return self.root / "s3"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def stack_file(self) -> Path:
        return self.root / "stack.json"

    @property
    def ports_file(self) -> Path:
        return self.root / "ports.json"

    def announce(self, stack: StackFile) -> None:
        """Tells other processes where the services answer, and remembers their ports for the next start."""
        write_atomically(self.ports_file, json.dumps(stack.ports, indent=2) + "\n")
        write_atomically(self.stack_file, json.dumps(asdict(stack), indent=2) + "\n")

    def remembered_ports(self) -> dict[str, int]:
        """The ports of the last start; empty if there was none or the file is damaged."""
        try:
            ports = json.loads(self.ports_file.read_text())
            return {str(name): int(port) for name, port in ports.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}


@contextmanager
def hold(root: Path) -> Iterator[DataDir]:
    """Makes the data directory if need be and holds it for this process.

    Raises DataDirInUse if another process holds it. The kernel lets go of the lock when its holder dies, however it
    dies.
    """
    data = DataDir(root.expanduser().absolute())
    for directory in (data.root, data.kafka, data.postgres, data.s3, data.logs):
        make_private(directory)
    # Opened for appending: truncating here would wipe the pid of a holder who is alive.
    with open(data.lock, "a+", opener=private_opener) as lock:
        if not _try_lock(lock.fileno(), time.monotonic() + LOCK_PATIENCE_SECONDS):
            raise DataDirInUse(data.root, _pid_in(data.lock))
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        try:
            yield data
        finally:
            data.stack_file.unlink(missing_ok=True)
            lock.truncate(0)


def make_private(directory: Path) -> None:
    """Makes a directory that only this user can enter.

    One that is there is closed to others, if it is ours to close.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_mode & 0o077:
        # A volume may belong to somebody else who lets us write; what is made in it is private all the same.
        with suppress(PermissionError):
            directory.chmod(0o700)


def read_running(root: Path) -> StackFile | None:
    """The stack that runs on this data directory, or None. A file left by a stack that was killed does not count."""
    data = DataDir(root.expanduser().absolute())
    try:
        stack = StackFile(**json.loads(data.stack_file.read_text()))
        with data.lock.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except BlockingIOError:
        return stack
    except (OSError, ValueError, TypeError):
        return None


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file so that a reader, or a crash, sees either the old content or the new. Only this user can read it.

    Several processes may do it at once, as two first starts of one user do: one of their contents is there then.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with open(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _try_lock(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _pid_in(lock: Path) -> int | None:
    try:
        return int(lock.read_text())
    except (OSError, ValueError):
        return None
