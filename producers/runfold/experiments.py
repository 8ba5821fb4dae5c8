"""From an experiment's name to its id, by the MLflow REST API of the tracking server."""

import time
from typing import TYPE_CHECKING, Any

from .errors import NotConnected, ServerRefused
from .settings import URI_VARIABLE
from .transport import Experiment, Never, TryAgain

if TYPE_CHECKING:
    from .http import HttpTransport

_PREFIX = "/api/2.0/mlflow/experiments"


def find_or_create(transport: "HttpTransport", name: str, timeout: float) -> Experiment:
    """The experiment of a name, created if there is none, within `timeout` seconds.

    NotConnected: no server there, or it stays unable to answer. ServerRefused: a bad name, or the experiment is deleted.
    """
    deadline = time.monotonic() + timeout
    try:
        found = _get(transport, name, deadline)
        if found is None:
            try:
                _ask(transport, "POST", "/create", deadline, json={"name": name})
            except Never as error:
                # Another process was faster; what it made is as good.
                if error.code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = _get(transport, name, deadline)
    except TryAgain as error:
        raise NotConnected(
            f"no tracking server: {error}. Start one with `runfold up`, or name yours by tracking_uri or {URI_VARIABLE}"
        ) from error
    except Never as error:
        raise ServerRefused(f"experiment {name!r}: {error}") from error
    if found is None:
        raise ServerRefused(f"experiment {name!r}: {transport.uri} created it, but does not find it")
    if found.get("lifecycle_stage") == "deleted":
        raise ServerRefused(f"experiment {name!r} is deleted; restore it, or log to another one")
    return Experiment(str(found["experiment_id"]), str(found.get("artifact_location") or ""))


def _get(transport: "HttpTransport", name: str, deadline: float) -> dict[str, Any] | None:
    try:
        answer = _ask(transport, "GET", "/get-by-name", deadline, params={"experiment_name": name})
    except Never as error:
        if error.code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    experiment = answer.get("experiment")
    if not isinstance(experiment, dict) or not str(experiment.get("experiment_id", "")).isdecimal():
        raise TryAgain(f"{transport.uri} does not answer as a Runfold server does")
    return experiment


def _ask(transport: "HttpTransport", method: str, path: str, deadline: float, **options: Any) -> dict[str, Any]:
    """Ask until the deadline, as long as a server is there and says that it can't answer now."""
    while True:
        try:
            return transport.request(method, _PREFIX + path, timeout=max(0.1, deadline - time.monotonic()), **options)
        except TryAgain as error:
            pause = 0.3 if error.after is None else error.after
            if not error.answered or time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
