"""`runfold.run` and `runfold.fork`.

Heavy modules, such as the schemas and the HTTP client, are imported when these are called.
"""

from collections.abc import Mapping
from typing import Any, Literal

from runfold.pipeline.rows import whole_step

from .active_run import Run
from .settings import Settings

Mode = Literal["online", "offline"]
OnRejection = Literal["warn", "raise"]


def run(
    experiment: str | None = None,
    params: Mapping[str, Any] | None = None,
    name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
    *,
    mode: Mode | None = None,
    run_id: str | None = None,
    start_step: int | None = None,
    on_rejection: OnRejection | None = None,
) -> Run:
    """Start a run. Use it in a `with` block.

    The run ends as FINISHED, as FAILED after an exception, and as KILLED after Ctrl-C. If no server answers, it starts
    with a warning, and its events are sent once a server does; with RUNFOLD_REQUIRE_SERVER=1, NotConnected is raised.

    Args:
        experiment: Name of the experiment, which is created if it does not exist. Default: "Default".
        params: Parameters, which can't change later. Values become strings; keys of nested dicts are joined with "/".
        name: Name of the run. Default: a generated name.
        tags: Tags, which may change later. Converted like `params`.
        tracking_uri: Address of the server, or `kafka://brokers/namespace?api=http://…` to write directly to Kafka.
            Default: RUNFOLD_TRACKING_URI, else http://127.0.0.1:5000.
        mode: "offline" sends nothing: events stay on disk until the next online run on this machine, or `runfold sync`.
            Default: RUNFOLD_MODE, else "online".
        run_id: Id of an existing run to join, or of a run that several processes write. Default: derived from the
            launcher's environment, such as torchrun's, else a new id. A joined run keeps its experiment, gets the given
            name and tags, and becomes RUNNING again if it had ended.
        start_step: The step of the checkpoint from which training resumes. Points of earlier attempts at later steps
            leave the series and stay in the history. All processes of a job may pass it.
        on_rejection: The server may reject an event later, such as a changed param, which affects nothing else. "warn"
            logs a warning; "raise" also raises ServerRefused at the end of the run. Default: RUNFOLD_ON_REJECTION, else
            "warn".

    Raises:
        ServerRefused: The experiment is deleted, its name is invalid, or the joined run belongs to another experiment.
        ValueError: A param or tag can't be stored. TypeError likewise.
        SdkError: A setting is invalid.
    """
    # Imported here because the schemas and the HTTP client would slow down `import runfold`.
    from .run_setup import start_run

    settings = Settings.load(tracking_uri, mode, on_rejection=on_rejection)
    step = None if start_step is None else whole_step(start_step)
    return start_run(settings, experiment, params or {}, name, tags or {}, run_id, start_step=step)


def fork(
    parent: Run | str,
    step: int,
    *,
    experiment: str | None = None,
    params: Mapping[str, Any] | None = None,
    name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
    mode: Mode | None = None,
    run_id: str | None = None,
    branch: int | None = None,
    on_rejection: OnRejection | None = None,
) -> Run:
    """Start a run that inherits the points of another run up to a step, without copying them.

    It inherits the points as they are now: later rewinds or new attempts of the parent do not affect it. Params and
    tags are not inherited; the new run gets the tags `runfold.forkedFrom` and `runfold.forkedAt`.

    Args:
        parent: The run to fork, or its id.
        step: The last step to inherit.
        experiment: Name of the experiment. Default: the parent's.
        branch: The parent's branch to inherit from. Default: its newest one. The server is asked for `branch` and
            `experiment` unless both are given.

    The other arguments are those of `runfold.run`.

    Raises:
        NotConnected: No server answers, or the parent's own points could not be sent.
        ServerRefused: The parent does not exist.
    """
    # Imported here for the same reason.
    from .run_setup import start_fork

    uri = tracking_uri
    if isinstance(parent, Run):
        uri = uri or parent._settings.uri
        if branch is None:
            # The server must have the parent's rewinds before it is asked for the newest branch.
            parent.flush()
    settings = Settings.load(uri, mode, on_rejection=on_rejection)
    parent_id = parent.id if isinstance(parent, Run) else parent
    return start_fork(settings, parent_id, whole_step(step), branch, experiment, params or {}, name, tags or {}, run_id)
