"""A hash of the folding code: an interrupted rebuild uses it to detect that the code changed since it began."""

import hashlib
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import runfold_schemas


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """SHA-256, shortened, of all files of the packages that decode and fold."""
    digest = hashlib.sha256()
    for package in ("runfold_projections", runfold_schemas.__name__):
        for name, data in sorted(_files(files(package), "")):
            digest.update(f"{package}/{name}:{len(data)}\n".encode())
            digest.update(data)
    return digest.hexdigest()[:16]


def _files(folder: Traversable, path: str) -> list[tuple[str, bytes]]:
    found = []
    for entry in folder.iterdir():
        name = f"{path}/{entry.name}"
        if entry.is_dir() and entry.name != "__pycache__":
            found += _files(entry, name)
        elif entry.is_file() and entry.name.endswith((".py", ".sql", ".avsc", ".json")):
            found.append((name, entry.read_bytes()))
    return found
