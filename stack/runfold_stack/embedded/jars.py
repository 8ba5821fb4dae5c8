"""Kafka's jars: exactly the pinned ones, fetched once, verified by SHA-256.

`kafka_jars.txt` names every jar of the broker with its checksum. The classpath is built from these files only, in the
user's Maven repository (where jgo and Maven put them); what lies beside them there does not matter. Nothing is fetched
while all of them are present, so a second start needs no network.

`python -m runfold_stack.embedded pins` resolves Kafka again and prints the list, for a raise of the version.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from runfold_stack.errors import JarError, MissingPackage

from .datadir import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ENDPOINT = "org.apache.kafka:kafka_2.13:4.3.0+org.slf4j:slf4j-simple:1.7.36"
PINS = "kafka_jars.txt"
FETCH_THREADS = 8


@dataclass(frozen=True)
class Pin:
    """One jar: its Maven coordinates and the SHA-256 its content must have."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where the jar lies below a Maven repository."""
        name = f"{self.artifact}-{self.version}.jar"
        return Path(*self.group.split("."), self.artifact, self.version, name)

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def parse_pins(text: str) -> tuple[Pin, ...]:
    """Reads `group:artifact:version sha256` lines; `#` begins a comment. Raises ValueError on anything else."""
    pins = []
    for line in text.splitlines():
        content = line.partition("#")[0].strip()
        if content:
            coordinates, sha256 = content.split()
            group, artifact, version = coordinates.split(":")
            pins.append(Pin(group, artifact, version, sha256))
    return tuple(pins)


def format_pins(pins: Sequence[Pin]) -> str:
    """The text that `parse_pins` reads."""
    lines = [f"# {ENDPOINT}", *sorted(f"{pin} {pin.sha256}" for pin in pins)]
    return "\n".join(lines) + "\n"


def pinned() -> tuple[Pin, ...]:
    """The jars this release runs Kafka from."""
    return parse_pins((resources.files(__package__) / PINS).read_text())


def maven_repository() -> Path:
    """The user's local Maven repository, where jgo looks for it as well."""
    return Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository")


def cache_directory() -> Path:
    """Where things that can be made again lie, for all data directories of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runfold"


def classpath(tell: Callable[[str], None], *, pins: Sequence[Pin] | None = None) -> list[Path]:
    """The verified jars, fetched first where they are missing. Blocks: call it in a thread.

    `tell` hears of what takes long. Raises JarError if a jar can't be fetched or is not what was pinned.
    """
    pins = pinned() if pins is None else pins
    repository = maven_repository()
    missing = [pin for pin in pins if not (repository / pin.path).is_file()]
    if missing:
        tell(f"fetching {len(missing)} jars of Kafka, once")
        fetch(missing, repository)
    verify(pins, repository, cache_directory() / "verified-jars.json")
    return [repository / pin.path for pin in pins]


def fetch(pins: Sequence[Pin], repository: Path) -> None:
    """Downloads each pinned jar by its coordinates: no version is resolved, so nothing newer can slip in.

    A jar appears in the repository only when it is complete and its checksum is right.
    """
    try:
        # Imported on first use: the extra may be missing.
        from jgo.maven import MavenContext
    except ImportError as error:
        raise MissingPackage("kafka", "jgo") from error
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL

    remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    repository.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".runfold-", dir=repository) as staging:
        maven = MavenContext(repo_cache=Path(staging), remote_repos=remotes)

        def one(pin: Pin) -> None:
            try:
                jar = Path(maven.project(pin.group, pin.artifact).at_version(pin.version).artifact().resolve())
            except Exception as error:  # jgo raises plain RuntimeError and whatever its HTTP library does
                raise JarError(
                    f"The jar {pin} of Kafka can't be fetched: {error}. The first start needs access to Maven "
                    "Central or a "
                    f"mirror (jgo's settings name one); or put the jar at {repository / pin.path} yourself."
                ) from error
            check(pin, jar)
            (repository / pin.path).parent.mkdir(parents=True, exist_ok=True)
            jar.replace(repository / pin.path)

        with ThreadPoolExecutor(FETCH_THREADS) as pool:
            list(pool.map(one, pins))


def check(pin: Pin, jar: Path) -> None:
    """Reads a jar and raises JarError if its content is not the pinned one."""
    with jar.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != pin.sha256:
        raise JarError(
            f"{jar} is not the jar {pin} that Runfold was tested with: its SHA-256 is {found}, expected {pin.sha256}. "
            "Delete the file to have it fetched again; if that does not help, the source it comes from is not to "
            "be trusted."
        )


def verify(pins: Sequence[Pin], repository: Path, marker: Path) -> None:
    """Checks the content of every jar against its pin; raises JarError at the first that differs.

    A jar whose size and modification time are as they were when it was last read is not read again; `marker` remembers
    them.
    """
    known = _read_marker(marker)
    seen: dict[str, list[object]] = {}
    for pin in pins:
        jar = repository / pin.path
        stat = jar.stat()
        identity: list[object] = [pin.sha256, stat.st_size, stat.st_mtime_ns]
        if known.get(str(jar)) != identity:
            check(pin, jar)
        seen[str(jar)] = identity
    if seen != known:
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, json.dumps(seen, indent=1))


def _read_marker(marker: Path) -> dict[str, object]:
    try:
        known = json.loads(marker.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def resolve_pins() -> tuple[Pin, ...]:
    """Resolves ENDPOINT with jgo and reads the pins from its lock file. Needs the network."""
    import jgo

    lock = jgo.build(ENDPOINT).lockfile
    assert lock is not None
    return tuple(Pin(jar.groupId, jar.artifactId, jar.version, jar.sha256 or "") for jar in lock.dependencies)
