"""From an experiment's name to its id, and what a fork needs to know of its parent, by the tracking server's API."""

import time
from typing import Any, Protocol
from urllib.parse import quote

from runfold.errors import NotConnected, ServerRefused
from runfold.tracking_uri import URI_VARIABLE

from .base import Experiment, KnownRun, Never, Parent, TryAgain

_MLFLOW = "/api/2.0/mlflow/"
_NATIVE = "/api/runfold/v1/"


class Asks(Protocol):
    """Who asks a tracking server."""

    uri: str

    def request(self, method: str, path: str, *, timeout: float | None = None, **options: Any) -> dict[str, Any]:
        """The JSON object of a successful answer. Raises TryAgain or Never."""


def find_or_create(transport: Asks, name: str, timeout: float) -> Experiment:
    """The experiment of a name, created if there is none, within `timeout` seconds.

    NotConnected: no server there, or it stays unable to answer. ServerRefused: a bad name, or the experiment is deleted.
    """
    deadline = time.monotonic() + timeout
    try:
        found = _get(transport, name, deadline)
        if found is None:
            try:
                _ask(transport, "POST", _MLFLOW + "experiments/create", deadline, json={"name": name})
            except Never as error:
                # Another process was faster; what it made is as good.
                if error.code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = _get(transport, name, deadline)
    except TryAgain as error:
        raise _nobody(error) from error
    except Never as error:
        if error.may_pass:
            raise NotConnected(str(error)) from error
        raise ServerRefused(f"experiment {name!r}: {error}") from error
    if found is None:
        raise ServerRefused(f"experiment {name!r}: {transport.uri} created it, but does not find it")
    if found.get("lifecycle_stage") == "deleted":
        raise ServerRefused(f"experiment {name!r} is deleted; restore it, or log to another one")
    return Experiment(str(found["experiment_id"]), str(found.get("artifact_location") or ""))


def find_run(transport: Asks, run_id: str, timeout: float) -> KnownRun | None:
    """A run, if it exists, within `timeout` seconds.

    NotConnected: no server there, or it stays unable to answer. ServerRefused: it does not take such an id.
    """
    deadline = time.monotonic() + timeout
    try:
        info = _ask(transport, "GET", _MLFLOW + "runs/get", deadline, params={"run_id": run_id})["run"]["info"]
        number = info["experiment_id"]
        found = _ask(transport, "GET", _MLFLOW + "experiments/get", deadline, params={"experiment_id": number})
        return KnownRun(str(found["experiment"]["name"]), str(info["status"]))
    except TryAgain as error:
        raise _nobody(error) from error
    except Never as error:
        if error.code == "RESOURCE_DOES_NOT_EXIST":
            return None
        if error.may_pass:
            raise NotConnected(str(error)) from error
        raise ServerRefused(f"run {run_id!r} can't be joined: {error}") from error
    except (KeyError, TypeError) as error:
        raise NotConnected(f"{transport.uri} does not answer as a Runfold server does") from error


def find_parent(transport: Asks, run_id: str, timeout: float) -> Parent:
    """What a fork needs to know of a run, within `timeout` seconds.

    NotConnected: no server there, or it stays unable to answer. ServerRefused: there is no such run, or the server knows no branches.
    """
    deadline = time.monotonic() + timeout
    try:
        run = _ask(transport, "GET", _MLFLOW + "runs/get", deadline, params={"run_id": run_id})
        line = _ask(transport, "GET", f"{_NATIVE}runs/{quote(run_id, safe='')}/branches", deadline, params={"limit": 0})
        number = run["run"]["info"]["experiment_id"]
        found = _ask(transport, "GET", _MLFLOW + "experiments/get", deadline, params={"experiment_id": number})
        return Parent(str(found["experiment"]["name"]), int(line["branch"]))
    except TryAgain as error:
        raise _nobody(error) from error
    except Never as error:
        if error.may_pass:
            raise NotConnected(str(error)) from error
        raise ServerRefused(f"run {run_id!r} can't be forked: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise NotConnected(f"{transport.uri} does not answer as a Runfold server does") from error


def _nobody(error: TryAgain) -> NotConnected:
    return NotConnected(
        f"no tracking server: {error}. Start one with `runfold up`, or name yours by tracking_uri or {URI_VARIABLE}"
    )


def _get(transport: Asks, name: str, deadline: float) -> dict[str, Any] | None:
    try:
        answer = _ask(transport, "GET", _MLFLOW + "experiments/get-by-name", deadline, params={"experiment_name": name})
    except Never as error:
        if error.code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    experiment = answer.get("experiment")
    if not isinstance(experiment, dict) or not str(experiment.get("experiment_id", "")).isdecimal():
        raise TryAgain(f"{transport.uri} does not answer as a Runfold server does")
    return experiment


def _ask(transport: Asks, method: str, path: str, deadline: float, **options: Any) -> dict[str, Any]:
    """Ask until the deadline, as long as a server is there and says that it can't answer now."""
    while True:
        try:
            return transport.request(method, path, timeout=max(0.1, deadline - time.monotonic()), **options)
        except TryAgain as error:
            pause = 0.3 if error.after is None else error.after
            if not error.answered or time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
