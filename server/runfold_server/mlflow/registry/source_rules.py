"""Which addresses a model version may come from: the rules of `mlflow.server.handlers` 3.17.2, as far as they need no look-up."""

import pathlib
import re
import urllib.parse
from dataclasses import dataclass
from typing import NoReturn

from runfold_server.core.errors import InvalidParameter

PROMPT_SOURCES = frozenset({"dummy-source", "prompt-template"})
_ROUTE = ("api", "2.0", "mlflow-artifacts", "artifacts")
_MOST_LAYERS = 20


@dataclass(frozen=True, slots=True)
class ModelUri:
    """What a `models:/` address names: a logged model, or of a registered one a version, a stage, an alias, or else the latest."""

    model_id: str | None = None
    name: str = ""
    version: str | None = None
    stage: str | None = None
    alias: str | None = None


def scheme_of(source: str) -> str:
    """The address's scheme; a malformed address has none that is known."""
    try:
        return urllib.parse.urlparse(source).scheme
    except ValueError as error:
        raise InvalidParameter(f"Invalid model version source: '{source}'. It is no URI: {error}") from None


def authority_of(source: str) -> str:
    """The part between `//` and the path."""
    return urllib.parse.urlparse(source).netloc


def parse_model_uri(source: str) -> ModelUri:
    """The parts of a `models:/` address; InvalidParameter in MLflow's words if it is malformed."""
    parts = urllib.parse.urlparse(source, allow_fragments=False).path.removeprefix("/").lstrip("/").split("/")
    if not urllib.parse.urlparse(source, allow_fragments=False).path.startswith("/") or len(parts) > 2:
        not_contained(source, "model_id")
    if not all(part.strip() for part in parts):
        not_contained(source, "model_id")
    if len(parts) == 2:
        name, suffix = parts
        if suffix.isdigit():
            return ModelUri(name=name, version=suffix)
        return ModelUri(name=name) if suffix.lower() == "latest" else ModelUri(name=name, stage=suffix)
    name, at, alias = parts[0].rpartition("@")
    if at:
        return ModelUri(name=name, alias=alias) if alias.strip() else not_contained(source, "model_id")
    return ModelUri(model_id=parts[0])


def not_contained(source: str, owner: str) -> NoReturn:
    """Refuse a source that what the request names (`run_id` or `model_id`) does not hold."""
    raise InvalidParameter(
        f"Invalid model version source: '{source}'. The {owner} request parameter must identify the resource that contains the source."
    )


def check_not_local(source: str, owner: str) -> None:
    """A path of the server's own disk is no source: no artifacts of a run or a model lie there."""
    if not _is_local(source):
        return
    of = "run specified by the run_id" if owner == "run_id" else "run specified by the model_id"
    raise InvalidParameter(
        f"Invalid model version source: '{source}'. To use a local path as a model version source, the {owner} request parameter has "
        f"to be specified and the local path has to be contained within the artifact directory of the {of}."
    )


def _is_local(source: str) -> bool:
    parsed = urllib.parse.urlparse(source)
    host = parsed.hostname
    remote = bool(host) and not (host == "." or str(host).startswith(("localhost", "127.0.0.1")))
    if parsed.scheme == "file" and remote:
        raise InvalidParameter(
            f"{source} is not a valid remote uri. For remote access on windows, please consider using a different scheme such as SMB "
            "(e.g. smb://<hostname>/<path>)."
        )
    return parsed.scheme in ("", "file") and source != "databricks"


def check_no_way_up(source: str) -> None:
    """The address's path leads where it says: no `..`, in whatever escapes."""
    plain = _unescaped(source, urllib.parse.unquote_plus)
    path = re.sub(r"/+", "/", urllib.parse.urlparse(plain).path.rstrip("/"))
    # Only texts are compared; nothing is looked up on this machine's disk.
    plainer = pathlib.PurePosixPath(path).as_posix() if path else ""
    if "\x00" in path or ".." in plain.split("/") or (path and (not path.startswith("/") or plainer != path)):
        raise InvalidParameter(
            f"Invalid model version source: '{source}'. If supplying a source as an http, https, local file path, ftp, objectstore, or "
            "mlflow-artifacts uri, an absolute path must be provided without relative path references present. Please provide an absolute path."
        )


def is_served_artifact(source: str) -> bool:
    """Whether the address lies in the artifact store of a server of MLflow's protocol."""
    scheme, _, parts = _parts(source)
    if scheme == "mlflow-artifacts":
        return True
    starts = range(len(parts) - len(_ROUTE) + 1)
    return scheme in ("http", "https") and any(parts[at : at + len(_ROUTE)] == _ROUTE for at in starts)


def lies_within(source: str, root: str) -> bool:
    """Whether an address lies below another, or is it."""
    scheme, authority, parts = _parts(source)
    root_scheme, root_authority, root_parts = _parts(root)
    return (
        (scheme, authority) == (root_scheme, root_authority)
        and bool(root_parts)
        and parts[: len(root_parts)] == root_parts
    )


def _parts(uri: str) -> tuple[str, str, tuple[str, ...]]:
    parsed = urllib.parse.urlsplit(uri)
    parts = tuple(_unescaped(part, urllib.parse.unquote) for part in parsed.path.split("/") if part)
    return parsed.scheme.lower(), parsed.netloc.lower(), parts


def _unescaped(text: str, unquote) -> str:  # type: ignore[no-untyped-def]
    for _ in range(_MOST_LAYERS):
        plain = unquote(text)
        if plain == text:
            return str(text)
        text = plain
    raise InvalidParameter(f"Invalid model version source: '{text[:200]}'. It is escaped too often.")
