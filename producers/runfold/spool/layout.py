"""Directory layout and ownership of spools:

`<root>/<node>/<run id>/<writer id>/`, with a lock file held by the owner.
"""

import fcntl
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from runfold.errors import SdkError

SEGMENT = re.compile(r"(\d{8})\.seg")
LOCK, ABOUT, ACKED = "lock", "about.json", "acked"
FORMAT = 1
_NEW = ".new-"
_ABANDONED_AFTER_SECONDS = 600.0
"""Creating a spool takes milliseconds; a directory that is unfinished for this long belongs to a dead process."""


@dataclass(frozen=True, slots=True)
class SpoolInfo:
    """Content of `about.json`. An empty `uri` means that nobody configured a tracking URI for the run."""

    run_id: str
    experiment: str
    uri: str
    node: str
    pid: int
    created_ms: int
    format: int = FORMAT
    offline: bool = False
    """The owner sends nothing itself."""

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Raise SdkError if the file is missing, malformed, or was written by a newer release."""
        path = directory / ABOUT
        try:
            found = json.loads(path.read_bytes())
            known = {field.name: found[field.name] for field in fields(cls) if field.name != "offline"}
            info = cls(**known, offline=found.get("offline") is True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SdkError(f"{path} can't be read: {type(error).__name__}: {error}") from None
        if info.format != FORMAT:
            raise SdkError(f"{path}: format {info.format} is not supported; this release reads format {FORMAT}")
        if not all(isinstance(text, str) for text in (info.run_id, info.experiment, info.uri, info.node)):
            raise SdkError(f"{path} can't be read: run_id, experiment, uri and node must be strings")
        return info

    def to_json(self) -> bytes:
        """Encode as the content of `about.json`."""
        return json.dumps(asdict(self), indent=1).encode()


class SpoolLock:
    """A process's exclusive claim on a spool. The kernel releases it when the process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, directory: Path, *, create: bool = False) -> Self | None:
        """Return None if another process holds the lock or the directory is gone."""
        try:
            descriptor = os.open(directory / LOCK, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def holds(self, directory: Path) -> bool:
        """Return whether the locked file is still the one in the directory."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(directory / LOCK))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Close the lock file. In a forked child this drops only the child's share; the parent keeps its claim."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def create_spool(root: Path, info: SpoolInfo, writer: str) -> tuple[Path, SpoolLock]:
    """Create a spool that is complete and locked before others can see it. OSError if the directory can't be made."""
    parent = root / _file_name(info.node) / info.run_id
    for attempt in itertools.count():
        for directory in (root, parent.parent, parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = parent / f"{_NEW}{writer}-{attempt}"
        try:
            new.mkdir(mode=0o700)
            lock = SpoolLock.acquire(new, create=True)
            if lock is None:
                # This process was suspended for so long that `remove_abandoned` took it for dead.
                continue
            _write_private(new / ABOUT, info.to_json())
            directory = parent / writer
            new.rename(directory)
        except FileNotFoundError:
            # The run's last other spool was removed between the two calls, and its parent directory with it.
            continue
        return directory, lock
    raise AssertionError("itertools.count() does not end")


def link_spool(directory: Path) -> Path:
    """Hard-link a spool's current files into a new directory that other readers and the disk bound ignore. OSError."""
    copy = directory.parent.parent / f"{_NEW}{directory.name}-{os.getpid()}"
    copy.mkdir(mode=0o700)
    for path in (directory / ABOUT, *(segment_path(directory, number) for number in segments(directory))):
        os.link(path, copy / path.name)
    return copy


def restore_spool(directory: Path, info: SpoolInfo, lock: SpoolLock) -> SpoolLock:
    """Recreate a live spool whose files were deleted. OSError if that fails or another process owns it now."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not lock.holds(directory):
        acquired = SpoolLock.acquire(directory, create=True)
        if acquired is None:
            raise OSError(f"{directory} was deleted and recreated by another process")
        lock.release()
        lock = acquired
    _write_private(directory / ABOUT, info.to_json())
    return lock


def _write_private(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def spools(where: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield the spool directories at or below a directory, oldest writers first within a run."""
    if (where / ABOUT).is_file():
        yield where
        return
    try:
        real = where.resolve()
        below = sorted(path for path in where.iterdir() if path.is_dir() and not path.name.startswith(_NEW))
    except OSError:
        return
    if real in above:
        # A symbolic link that points upwards.
        return
    for path in below:
        yield from spools(path, above | {real})


def node_directory(root: Path, node: str) -> Path:
    """Return the directory that holds a node's spools."""
    return root / _file_name(node)


def segments(directory: Path) -> list[int]:
    """Return the numbers of the segment files, ascending."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := SEGMENT.fullmatch(name)))


def segment_path(directory: Path, number: int) -> Path:
    """Return the path of a segment file."""
    return directory / f"{number:08d}.seg"


def unknown_files(directory: Path) -> list[str]:
    """Return the names of files that this release does not create. They are never touched."""
    known = {LOCK, ABOUT, ACKED}
    return sorted(name for name in os.listdir(directory) if name not in known and not SEGMENT.fullmatch(name))


def remove_spool(directory: Path) -> None:
    """Remove a spool without segments. It keeps its `about.json` while it holds unknown files."""
    (directory / ACKED).unlink(missing_ok=True)
    if not directory.is_dir() or unknown_files(directory):
        return
    for name in (ABOUT, LOCK):
        (directory / name).unlink(missing_ok=True)
    for path in (directory, directory.parent, directory.parent.parent):
        try:
            path.rmdir()
        except OSError:
            return


def remove_abandoned(below: Path) -> None:
    """Remove directories whose process died while it created its spool. They hold no events."""
    # os.walk and not rglob, which fails if a process renames its new directory meanwhile.
    found = [Path(at, name) for at, names, _ in os.walk(below) for name in names if name.startswith(_NEW)]
    for path in found:
        try:
            young = time.time() - path.stat().st_mtime < _ABANDONED_AFTER_SECONDS
        except FileNotFoundError:
            continue
        if young:
            continue
        lock = SpoolLock.acquire(path, create=True)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            lock.release()


def _file_name(node: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", node)[:100].lstrip(".") or "node"
