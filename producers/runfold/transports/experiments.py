"""Lookups of experiments and runs through the tracking server's API."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import quote

from runfold.errors import NotConnected, ServerRefused
from runfold.tracking_uri import URI_VARIABLE

from .base import ExistingRun, Experiment, Misconfigured, ParentRun, Rejected, TooLargeForProxy, TryAgain

_MLFLOW = "/api/2.0/mlflow/"
_NATIVE = "/api/runfold/v1/"
_RETRY_SECONDS = 0.3
"""Pause between attempts while a server is there but not ready, such as at its start."""


class ApiClient(Protocol):
    """A client of a tracking server's API."""

    uri: str

    def request(self, method: str, path: str, *, timeout: float | None = None, **options: Any) -> dict[str, Any]:
        """Return the JSON object of a successful answer. Raises TransportError."""


def find_or_create(client: ApiClient, name: str, timeout: float) -> Experiment:
    """Find an experiment by name, or create it, within `timeout` seconds.

    NotConnected: the server can't be reached, or stays unable to answer. ServerRefused: the name is invalid, or the
    experiment is deleted.
    """
    deadline = time.monotonic() + timeout
    with _sdk_errors(f"experiment {name!r}"):
        found = _experiment_by_name(client, name, deadline)
        if found is None:
            try:
                _request(client, "POST", _MLFLOW + "experiments/create", deadline, json={"name": name})
            except Rejected as error:
                # Another process created it first.
                if error.code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = _experiment_by_name(client, name, deadline)
    if found is None:
        raise ServerRefused(f"experiment {name!r}: {client.uri} created it but does not find it")
    if found.get("lifecycle_stage") == "deleted":
        raise ServerRefused(f"experiment {name!r} is deleted; restore it, or log to another one")
    return Experiment(str(found["experiment_id"]), str(found.get("artifact_location") or ""))


def find_run(client: ApiClient, run_id: str, timeout: float) -> ExistingRun | None:
    """Find a run within `timeout` seconds; None if it does not exist.

    NotConnected: the server can't be reached, or stays unable to answer. ServerRefused: the id is invalid.
    """
    deadline = time.monotonic() + timeout
    try:
        with _sdk_errors(f"run {run_id!r} can't be joined"):
            info = _request(client, "GET", _MLFLOW + "runs/get", deadline, params={"run_id": run_id})["run"]["info"]
            return ExistingRun(_experiment_name(client, info["experiment_id"], deadline), str(info["status"]))
    except ServerRefused as error:
        if isinstance(error.__cause__, Rejected) and error.__cause__.code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    except (KeyError, TypeError) as error:
        raise NotConnected(f"{client.uri} does not answer as a Runfold server does") from error


def find_parent(client: ApiClient, run_id: str, timeout: float) -> ParentRun:
    """Find a run to fork within `timeout` seconds.

    NotConnected: the server can't be reached, or stays unable to answer. ServerRefused: there is no such run, or the
    server does not support branches.
    """
    deadline = time.monotonic() + timeout
    branches_path = f"{_NATIVE}runs/{quote(run_id, safe='')}/branches"
    try:
        with _sdk_errors(f"run {run_id!r} can't be forked"):
            run = _request(client, "GET", _MLFLOW + "runs/get", deadline, params={"run_id": run_id})
            branches = _request(client, "GET", branches_path, deadline, params={"limit": 0})
            experiment = _experiment_name(client, run["run"]["info"]["experiment_id"], deadline)
            return ParentRun(experiment, int(branches["branch"]))
    except (KeyError, TypeError, ValueError) as error:
        raise NotConnected(f"{client.uri} does not answer as a Runfold server does") from error


@contextmanager
def _sdk_errors(subject: str) -> Iterator[None]:
    """Turn errors of the transport into those of the SDK."""
    try:
        yield
    except TryAgain as error:
        raise NotConnected(
            f"no tracking server: {error}. Start one with `runfold up`, or set tracking_uri or {URI_VARIABLE}"
        ) from error
    except (Misconfigured, TooLargeForProxy) as error:
        raise NotConnected(str(error)) from error
    except Rejected as error:
        raise ServerRefused(f"{subject}: {error}") from error


def _experiment_by_name(client: ApiClient, name: str, deadline: float) -> dict[str, Any] | None:
    path = _MLFLOW + "experiments/get-by-name"
    try:
        answer = _request(client, "GET", path, deadline, params={"experiment_name": name})
    except Rejected as error:
        if error.code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    experiment = answer.get("experiment")
    if not isinstance(experiment, dict) or not str(experiment.get("experiment_id", "")).isdecimal():
        raise TryAgain(f"{client.uri} does not answer as a Runfold server does")
    return experiment


def _experiment_name(client: ApiClient, experiment_id: Any, deadline: float) -> str:
    path = _MLFLOW + "experiments/get"
    found = _request(client, "GET", path, deadline, params={"experiment_id": experiment_id})
    return str(found["experiment"]["name"])


def _request(client: ApiClient, method: str, path: str, deadline: float, **options: Any) -> dict[str, Any]:
    """Repeat a request until the deadline while a server is there but temporarily unable to answer."""
    while True:
        try:
            return client.request(method, path, timeout=max(0.1, deadline - time.monotonic()), **options)
        except TryAgain as error:
            pause = _RETRY_SECONDS if error.after is None else error.after
            if not error.answered or time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
