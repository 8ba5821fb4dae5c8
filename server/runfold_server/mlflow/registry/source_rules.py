"""Addresses that a model version may come from: the rules of `mlflow.server.handlers` 3.17.2 that need no look-up."""

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
    """The parts of a `models:/` address: a logged model, or a registered one and its version, stage or alias.

    Without any of those it names the latest version.
    """

    model_id: str | None = None
    name: str = ""
    version: str | None = None
    stage: str | None = None
    alias: str | None = None


def scheme_of(source: str) -> str:
    """Return the scheme of an address; InvalidParameter if the address is malformed."""
    try:
        return urllib.parse.urlparse(source).scheme
    except ValueError as error:
        raise InvalidParameter(f"Invalid model version source: '{source}'. It is not a URI: {error}") from None


def authority_of(source: str) -> str:
    """Return the part between `//` and the path."""
    return urllib.parse.urlparse(source).netloc


def parse_model_uri(source: str) -> ModelUri:
    """Return the parts of a `models:/` address; InvalidParameter in MLflow's words if it is malformed."""
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
    """Reject a source outside of the run or model that the request names by `owner` (`run_id` or `model_id`)."""
    raise InvalidParameter(
        f"Invalid model version source: '{source}'. The {owner} request parameter must identify the resource that "
        "contains the source."
    )


def check_not_local(source: str, owner: str) -> None:
    """Reject a path on the server's own disk, which holds no artifacts of a run or model."""
    if not _is_local(source):
        return
    of = "run specified by the run_id" if owner == "run_id" else "run specified by the model_id"
    raise InvalidParameter(
        f"Invalid model version source: '{source}'. To use a local path as a model version source, the {owner} "
        "request parameter has to be specified and the local path has to be contained within the artifact directory "
        f"of the {of}."
    )


def _is_local(source: str) -> bool:
    parsed = urllib.parse.urlparse(source)
    host = parsed.hostname
    remote = bool(host) and not (host == "." or str(host).startswith(("localhost", "127.0.0.1")))
    if parsed.scheme == "file" and remote:
        raise InvalidParameter(
            f"{source} is not a valid remote uri. For remote access on windows, please consider using a different "
            "scheme such as SMB (e.g. smb://<hostname>/<path>)."
        )
    return parsed.scheme in ("", "file") and source != "databricks"


def check_no_way_up(source: str) -> None:
    """Reject an address with `..` in its path, however it is escaped."""
    plain = _unescaped(source, urllib.parse.unquote_plus)
    path = re.sub(r"/+", "/", urllib.parse.urlparse(plain).path.rstrip("/"))
    # This compares texts only; it does not look at this machine's disk.
    plainer = pathlib.PurePosixPath(path).as_posix() if path else ""
    if "\x00" in path or ".." in plain.split("/") or (path and (not path.startswith("/") or plainer != path)):
        raise InvalidParameter(
            f"Invalid model version source: '{source}'. If supplying a source as an http, https, local file path, "
            "ftp, objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path "
            "references present. Please provide an absolute path."
        )


def is_served_artifact(source: str) -> bool:
    """Return whether the address is in the artifact store of a server with MLflow's protocol."""
    scheme, _, parts = _parts(source)
    if scheme == "mlflow-artifacts":
        return True
    starts = range(len(parts) - len(_ROUTE) + 1)
    return scheme in ("http", "https") and any(parts[at : at + len(_ROUTE)] == _ROUTE for at in starts)


def lies_within(source: str, root: str) -> bool:
    """Return whether an address equals `root` or is below it."""
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
