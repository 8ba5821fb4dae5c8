"""A small file system to fill. Mounting one takes root; without it the tests that need one fail and say so."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NO_MOUNT = "RUNFOLD_TEST_NO_MOUNT"
BLOCK = 1024 * 1024


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own at `directory`, in memory."""
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and os.environ.get(NO_MOUNT) == "1":
        pytest.skip(f"{NO_MOUNT}=1, and no tmpfs can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, (
        f"this test mounts a tmpfs, which takes root: {done.stderr.strip()}; {NO_MOUNT}=1 leaves such tests out"
    )
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


class Ballast:
    """A file that takes all the room there is, until it is dropped."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Leave so many bytes free, at most."""
        with self._file.open("ab", buffering=0) as file:
            for size in (BLOCK, 4096):
                while self._free() - leave >= size:
                    try:
                        file.write(os.urandom(4096) * (size // 4096))
                    except OSError:
                        break

    def _free(self) -> int:
        found = os.statvfs(self._file.parent)
        return found.f_bavail * found.f_frsize

    def drop(self) -> None:
        """Give the room back."""
        self._file.unlink()
