"""Environments as `pip install` makes them: the built wheel, and nothing but what one choice of extras brings.

The packages are those of the environment that runs the tests, linked in: no network, and a second instead of minutes.
"""

import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parents[3]


def build_wheel(directory: Path) -> Path:
    """Build this tree's wheel."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def install(wheel: Path, extra: str, directory: Path) -> Path:
    """Make an environment with the wheel and one extra (or none: ""), and return its folder of programs."""
    venv.create(directory, with_pip=False, symlinks=True)
    (packages,) = directory.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for name in closure(_requirements(packages), extra):
        for entry in _entries(name):
            link = packages / entry.name
            if not link.exists():
                link.symlink_to(entry)
    program = directory / "bin" / "runfold"
    program.write_text(
        f"#!{directory / 'bin' / 'python'}\nimport sys\nfrom {_entry_point(packages)} import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    return directory / "bin"


def _requirements(packages: Path) -> list[str]:
    (metadata,) = packages.glob("runfold-*.dist-info/METADATA")
    return [
        line.removeprefix("Requires-Dist: ")
        for line in metadata.read_text().splitlines()
        if line.startswith("Requires-Dist: ")
    ]


def _entry_point(packages: Path) -> str:
    (entries,) = packages.glob("runfold-*.dist-info/entry_points.txt")
    found = re.search(r"^runfold = ([\w.]+):main$", entries.read_text(), re.MULTILINE)
    assert found is not None, entries.read_text()
    return found[1]


def closure(requirements: list[str], extra: str) -> set[str]:
    """Names of all distributions that these requirements bring, with what they require themselves."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(line), extra) for line in requirements]
    while waiting:
        wanted, given = waiting.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": given}):
            continue
        for one in wanted.extras or {""}:
            if (wanted.name, one) in seen:
                continue
            seen.add((wanted.name, one))
            own = requirements if wanted.name == "runfold" else _required(wanted.name)
            if wanted.name != "runfold":
                found.add(wanted.name)
            waiting += [(Requirement(line), one) for line in own]
            if one:
                waiting += [(Requirement(line), "") for line in own]
    return found


def _required(name: str) -> list[str]:
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        return []


def _entries(name: str) -> Iterator[Path]:
    """Top-level files and folders of a distribution in this environment's site-packages."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return
    for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
        yield Path(str(found.locate_file(top)))
