"""Paths that callers send: checked as MLflow checks them, and as the log does."""

from dataclasses import dataclass
from pathlib import PureWindowsPath
from urllib.parse import unquote, urlsplit

from runfold_schemas.events.artifact_paths import check_path, owner_and_path
from runfold_server.core.errors import InvalidParameter, NotImplementedYet
from runfold_server.core.own_folders import own_folder

_ENCODED_AT_MOST = 10
"""Times that a path may be percent-encoded on top of itself before it counts as an attempt at something."""


@dataclass(frozen=True, slots=True)
class ArtifactPath:
    """A file or folder: whose it is, where it is in there, and how clients name it."""

    owner: str
    path: str
    shown: str


def parse_path(proxy_path: str) -> ArtifactPath:
    """Where a path of the artifact store leads. InvalidParameter, in MLflow's words, if it is not plain."""
    check_safe(proxy_path)
    try:
        owner, path = owner_and_path(proxy_path)
    except ValueError:
        raise InvalidParameter("Invalid path") from None
    return ArtifactPath(owner, path, proxy_path)


def parse_file_path(proxy_path: str) -> ArtifactPath:
    """The same for a path that has to be a file's: an owner's root is none."""
    found = parse_path(proxy_path)
    if not found.path:
        raise InvalidParameter("Invalid path")
    return found


def check_safe(path: str) -> str:
    """The path, if neither it nor what it decodes to leads elsewhere; "" is the root.

    The rules are those of `mlflow.utils.uri.validate_path_is_safe` 3.17.2 on Linux, on every system alike, and the log's (`check_path`).
    MLflow goes on with the decoded path, so that a file named `a%20b` becomes another; here a name stays what it was.
    """
    form = path
    for _ in range(_ENCODED_AT_MOST):
        if "#" in form or PureWindowsPath(form).is_absolute():
            raise InvalidParameter("Invalid path")
        _check_plain(form)
        decoded = unquote(form)
        if decoded == form:
            return path
        form = decoded
    raise InvalidParameter("Invalid path")


def _check_plain(path: str) -> None:
    try:
        check_path(path)
    except ValueError as error:
        # MLflow's words where MLflow refuses, too: of what leads elsewhere.
        leads = path.startswith("/") or not {"", ".", ".."}.isdisjoint(path.split("/"))
        raise InvalidParameter("Invalid path" if leads else f"Invalid path: {error}.") from None


def store_path(root: str, path: str, folder: str) -> str:
    """The path in the artifact store of a path below a root, such as a run's artifact URI, that ends with `folder`.

    NotImplementedYet if the root is another store's: that is read by clients themselves. InvalidParameter if it leads into what is
    another run's or model's: whoever named it is not to read and write there in this one's name.
    """
    parsed = urlsplit(root)
    if parsed.scheme != "mlflow-artifacts" or parsed.netloc:
        raise NotImplementedYet(
            f"These artifacts are kept at {root}, outside of this server's store; clients read and write them there themselves."
        )
    own = own_folder(root, folder)
    if own is None:
        raise InvalidParameter(
            f"These artifacts are said to be kept at {root}, which is no folder of their own in this server's store: such a one ends "
            f"with '{folder}', lies within no other run's or model's, and has no query."
        )
    return "/".join(part for part in (own, path) if part)
