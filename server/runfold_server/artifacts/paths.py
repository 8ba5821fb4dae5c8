"""Paths that clients send, checked as MLflow and the log check them."""

from dataclasses import dataclass
from pathlib import PureWindowsPath
from urllib.parse import unquote, urlsplit

from runfold_schemas.events.artifact_paths import check_path, owner_and_path
from runfold_server.core.errors import InvalidParameter, NotImplementedYet
from runfold_server.core.own_folders import own_folder

_MOST_ENCODINGS = 10
"""Layers of percent-encoding; a path with more counts as an attack."""


@dataclass(frozen=True, slots=True)
class ArtifactPath:
    """A file or folder: its owner, its path below the owner's root, and its name for clients."""

    owner: str
    path: str
    shown: str


def parse_path(proxy_path: str) -> ArtifactPath:
    """Return the file or folder of a path in the store.

    InvalidParameter, in MLflow's words, if the path is not plain.
    """
    check_safe(proxy_path)
    try:
        owner, path = owner_and_path(proxy_path)
    except ValueError:
        raise InvalidParameter("Invalid path") from None
    return ArtifactPath(owner, path, proxy_path)


def parse_file_path(proxy_path: str) -> ArtifactPath:
    """Return the file of a path in the store. InvalidParameter also for an owner's root."""
    found = parse_path(proxy_path)
    if not found.path:
        raise InvalidParameter("Invalid path")
    return found


def check_safe(path: str) -> str:
    """Return the path if neither it nor any decoding of it leaves its folder; "" is the root.

    The rules are those of `mlflow.utils.uri.validate_path_is_safe` 3.17.2 on Linux and those of the log (`check_path`).
    MLflow continues with the decoded path, so that a file named `a%20b` becomes another one; here a name is kept.
    """
    form = path
    for _ in range(_MOST_ENCODINGS):
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
        # MLflow's words where MLflow rejects the path, too: for one that leaves its folder.
        leads = path.startswith("/") or not {"", ".", ".."}.isdisjoint(path.split("/"))
        raise InvalidParameter("Invalid path" if leads else f"Invalid path: {error}.") from None


def store_path(root: str, path: str, folder: str) -> str:
    """Return the path in the store of a path below `root`, an artifact URI that ends with `folder`.

    NotImplementedYet if the root is in another store, which clients read themselves. InvalidParameter if it is in the
    folder of another run or model, which must not be read or written in this one's name.
    """
    parsed = urlsplit(root)
    if parsed.scheme != "mlflow-artifacts" or parsed.netloc:
        raise NotImplementedYet(
            f"These artifacts are at {root}, outside of this server's store; clients read and write them there "
            "themselves."
        )
    own = own_folder(root, folder)
    if own is None:
        raise InvalidParameter(
            f"The artifact URI {root} is not a folder of its own in this server's store: such a folder ends with "
            f"'{folder}', is in no other run's or model's folder, and has no query."
        )
    return "/".join(part for part in (own, path) if part)
