"""Owners and paths of files in the artifact store: an owner is a run or a folder."""

import re

ROOT = "/"
"""Owner of the files that belong to no run and no folder.

Owners other than runs contain a slash, which run ids do not.
"""
MAX_OWNER_BYTES = 500
MAX_PATH_BYTES = 1800
"""Owner and path together are a row of an index, which holds at most 2,704 bytes."""
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_FOLDER = "artifacts"
_KINDS = frozenset({"models", "traces"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def append_path(location: str, path: str) -> str:
    """The address of `path` under `location`. A query stays at the end, as in `mlflow.utils.uri.append_to_uri_path`."""
    at = location.find("?") if _SCHEME.match(location) else -1
    base, query = (location, "") if at < 0 else (location[:at], location[at:])
    return f"{base.rstrip('/')}/{path}{query}"


def owner_and_path(proxy_path: str) -> tuple[str, str]:
    """Split a path of the artifact proxy into owner and path.

    `<any>/<run id>/artifacts/<path>` belongs to the run, `<any>/models/<id>/artifacts/<path>` (and `traces`) to the
    folder that ends with `artifacts`, everything else to ROOT. ValueError if the path is not plain: see `check_path`.
    """
    check_path(proxy_path)
    parts = proxy_path.split("/") if proxy_path else []
    for at in range(1, len(parts)):
        if parts[at] != _FOLDER:
            continue
        rest = "/".join(parts[at + 1 :])
        if at > 1 and parts[at - 2] in _KINDS:
            return "/".join(parts[: at + 1]), rest
        if _RUN_ID.fullmatch(parts[at - 1]):
            return parts[at - 1], rest
    return ROOT, proxy_path


def check_path(path: str) -> str:
    """Return the path if it is plain: relative, without empty parts, `.`, `..` and control characters; "" is the root.

    A backslash is a character of a name, as on Linux. ValueError names what is wrong with the path.
    """
    if len(path.encode(errors="surrogatepass")) > MAX_PATH_BYTES + MAX_OWNER_BYTES:
        raise ValueError(f"a path of {len(path)} characters is too long")
    if any(0xD800 <= ord(char) < 0xE000 for char in path):
        raise ValueError("it holds a lone surrogate")
    control = next((char for char in path if ord(char) < 32 or char == "\x7f"), None)
    if control is not None:
        raise ValueError(f"it holds a control character, U+{ord(control):04X}")
    if path and any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("it is absolute, or a part of it is empty, '.' or '..'")
    return path
