"""Paths that callers send: checked as MLflow checks them, and as the log does."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from runfold_schemas.artifacts import check_path, place

from ..errors import InvalidParameter, NotImplementedYet

_DRIVE = re.compile(r"[A-Za-z]:")
_ENCODED_AT_MOST = 10
"""Times that a path may be percent-encoded on top of itself before it counts as an attempt at something."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder: whose it is, where it is in there, and how clients name it."""

    owner: str
    path: str
    shown: str


def find_place(proxy_path: str) -> Place:
    """Where a path of the artifact store leads. InvalidParameter, in MLflow's words, if it is not plain."""
    safe(proxy_path)
    try:
        owner, path = place(proxy_path)
    except ValueError:
        raise InvalidParameter("Invalid path") from None
    return Place(owner, path, proxy_path)


def find_file(proxy_path: str) -> Place:
    """The same for a path that has to be a file's: an owner's root is none."""
    found = find_place(proxy_path)
    if not found.path:
        raise InvalidParameter("Invalid path")
    return found


def safe(path: str) -> str:
    """The path, if neither it nor what it decodes to leads elsewhere; "" is the root.

    The rules are those of `mlflow.utils.uri.validate_path_is_safe` 3.17.2, on every system alike, and the log's (`check_path`).
    MLflow goes on with the decoded path, so that a file named `a%20b` becomes another; here a name stays what it was.
    """
    form = path
    for _ in range(_ENCODED_AT_MOST):
        if "#" in form or _DRIVE.match(form):
            raise InvalidParameter("Invalid path")
        try:
            check_path(form)
        except ValueError:
            raise InvalidParameter("Invalid path") from None
        decoded = unquote(form)
        if decoded == form:
            return path
        form = decoded
    raise InvalidParameter("Invalid path")


def proxied(root: str, path: str) -> str:
    """The path in the artifact store of a path below a root such as a run's artifact URI.

    NotImplementedYet if the root is another store's: that is read by clients themselves.
    """
    parsed = urlsplit(root)
    if parsed.scheme != "mlflow-artifacts":
        raise NotImplementedYet(
            f"These artifacts are kept at {root}, outside of this server's store; clients read and write them there themselves."
        )
    return "/".join(part for part in (parsed.path.strip("/"), path) if part)
