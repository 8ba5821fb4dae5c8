"""Where spools lie and whose they are: `<root>/<node>/<run id>/<writer id>/`, with a lock that its process holds."""

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
_NEW = ".new-"
_UNBORN_AFTER = 600.0
FORMAT = 1


@dataclass(frozen=True, slots=True)
class About:
    """What a spool says of itself. `uri` is where its run was to be sent; empty: nobody said."""

    run_id: str
    experiment: str
    uri: str
    node: str
    pid: int
    created_ms: int
    format: int = FORMAT
    offline: bool = False
    """Its process sends nothing of it."""

    @classmethod
    def read(cls, directory: Path) -> Self:
        """SdkError says what is wrong with it; a newer release may have written it."""
        path = directory / ABOUT
        try:
            found = json.loads(path.read_bytes())
            known = {field.name: found[field.name] for field in fields(cls) if field.name != "offline"}
            about = cls(**known, offline=found.get("offline") is True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SdkError(f"{path} can't be read: {type(error).__name__}: {error}") from None
        if about.format != FORMAT:
            raise SdkError(f"{path}: format {about.format} is not known to this release, which reads {FORMAT}")
        if not all(isinstance(text, str) for text in (about.run_id, about.experiment, about.uri, about.node)):
            raise SdkError(f"{path} can't be read: run_id, experiment, uri and node must be texts")
        return about

    def text(self) -> bytes:
        """As it lies in the file."""
        return json.dumps(asdict(self), indent=1).encode()


class SpoolLock:
    """The claim of one process on one spool; the kernel ends it with the process, however that ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, directory: Path, *, create: bool = False) -> Self | None:
        """None: another process has it, or the directory is gone."""
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
        """Whether the file that is locked is still the one in the directory."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(directory / LOCK))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go. In a forked child this only drops the child's share: the parent keeps its claim."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def make(root: Path, about: About, writer: str) -> tuple[Path, SpoolLock]:
    """A new spool, whole and locked from the moment that it can be seen. OSError: no directory can be made there."""
    parent = root / _file_name(about.node) / about.run_id
    for attempt in itertools.count():
        for directory in (root, parent.parent, parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = parent / f"{_NEW}{writer}-{attempt}"
        try:
            new.mkdir(mode=0o700)
            lock = SpoolLock.take(new, create=True)
            if lock is None:
                # We stood still for so long that `clear_unborn` takes us for dead.
                continue
            _write_private(new / ABOUT, about.text())
            directory = parent / writer
            new.rename(directory)
        except FileNotFoundError:
            # The last other spool of the run ended between the two calls, and took the directory with it.
            continue
        return directory, lock
    raise AssertionError("counting has no end")


def link(directory: Path) -> Path:
    """A second name for all that is in a spool now, where no reader of spools looks and no bound on a run's disk counts it. OSError."""
    copy = directory.parent.parent / f"{_NEW}{directory.name}-{os.getpid()}"
    copy.mkdir(mode=0o700)
    for path in (directory / ABOUT, *(segment_path(directory, number) for number in segments(directory))):
        os.link(path, copy / path.name)
    return copy


def make_again(directory: Path, about: About, lock: SpoolLock) -> SpoolLock:
    """A spool of which somebody deleted files while its owner lives. OSError: it can't be made, or another process has it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not lock.holds(directory):
        taken = SpoolLock.take(directory, create=True)
        if taken is None:
            raise OSError(f"{directory} was deleted and made again by another process")
        lock.release()
        lock = taken
    _write_private(directory / ABOUT, about.text())
    return lock


def _write_private(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def spools(where: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Directories of spools at or below a directory, oldest writers first within a run."""
    if (where / ABOUT).is_file():
        yield where
        return
    try:
        real = where.resolve()
        below = sorted(path for path in where.iterdir() if path.is_dir() and not path.name.startswith(_NEW))
    except OSError:
        return
    if real in above:
        # A link that leads up again.
        return
    for path in below:
        yield from spools(path, above | {real})


def of_node(root: Path, node: str) -> Path:
    """Where the spools of a node lie."""
    return root / _file_name(node)


def segments(directory: Path) -> list[int]:
    """Numbers of the segment files, ascending."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := SEGMENT.fullmatch(name)))


def segment_path(directory: Path, number: int) -> Path:
    """The file of a segment."""
    return directory / f"{number:08d}.seg"


def strangers(directory: Path) -> list[str]:
    """Names of files that no spool of this release makes; they are left alone."""
    known = {LOCK, ABOUT, ACKED}
    return sorted(name for name in os.listdir(directory) if name not in known and not SEGMENT.fullmatch(name))


def remove(directory: Path) -> None:
    """Take away a spool whose segments are gone; while files that are not ours lie there it keeps its name tag."""
    (directory / ACKED).unlink(missing_ok=True)
    if not directory.is_dir() or strangers(directory):
        return
    for name in (ABOUT, LOCK):
        (directory / name).unlink(missing_ok=True)
    for path in (directory, directory.parent, directory.parent.parent):
        try:
            path.rmdir()
        except OSError:
            return


def clear_unborn(below: Path) -> None:
    """Take away directories of processes that died, a while ago, while they made their spool: nothing was written to them."""
    # Not rglob: it fails when a process that is born meanwhile gives its directory another name.
    found = [Path(at, name) for at, names, _ in os.walk(below) for name in names if name.startswith(_NEW)]
    for path in found:
        try:
            young = time.time() - path.stat().st_mtime < _UNBORN_AFTER
        except FileNotFoundError:
            continue
        if young:
            continue
        lock = SpoolLock.take(path, create=True)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            lock.release()


def _file_name(node: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", node)[:100].lstrip(".") or "node"
