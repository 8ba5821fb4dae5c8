"""How a run begins for training code. Nothing heavy is imported here: the contract and HTTP come when it is called."""

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
    """Start a run of an experiment, which is created if there is none of that name; without a name, it is "Default".

    `tracking_uri` is the server's address, or `kafka://brokers/namespace?api=http://…` to write to Kafka directly; without it
    RUNFOLD_TRACKING_URI, else http://127.0.0.1:5000. `params` can't change
    later, `tags` can; values become strings, nested dicts are joined with "/". Without a name, one is made up.
    With mode "offline" (or RUNFOLD_MODE) nothing is sent: what is logged waits on disk for the next run, or for `runfold sync`.
    `run_id` joins a run that exists, or is to be written by several processes; without it the launcher's environment decides. A run
    that is joined stays in its experiment, takes the name and tags that are given, and is RUNNING again if it had ended.
    `start_step` says that training resumes from the checkpoint of that step: what earlier attempts logged at greater steps is cut
    off from the series, and stays in the history. Every process of the job may say it.

    What the server refuses later, such as a param that would change, is told by warnings and changes nothing else; with `on_rejection`
    "raise" (or RUNFOLD_ON_REJECTION) the end of the run raises ServerRefused.

    If no server answers, the run starts all the same, with a warning, and is sent when one does (RUNFOLD_REQUIRE_SERVER: NotConnected).
    Use the run in a `with` block: it ends as FINISHED, as FAILED when an exception passes, as KILLED on Ctrl-C.

    ServerRefused: the experiment is deleted, its name is not allowed, or the run that is joined is of another one. ValueError or TypeError: a param or tag that can't be
    stored. SdkError: a setting that can't be used.
    """
    # Imported on first use: `import runfold` stays light.
    from .run_setup import start

    settings = Settings.load(tracking_uri, mode, on_rejection=on_rejection)
    step = None if start_step is None else whole_step(start_step)
    return start(settings, experiment, params or {}, name, tags or {}, run_id, start_step=step)


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
    """Start a run that inherits another's history up to a step, without copying it: its points as they are effective now.

    Whatever the parent logs on a new branch, or cuts off, later, changes nothing of that. The parent is a run or its id. The run is created in the
    parent's experiment unless one is named; params and tags are not inherited, but for the tags `runfold.forkedFrom` and
    `runfold.forkedAt`. A server is asked on which branch the parent is, unless `branch` and `experiment` say it. Otherwise as `run`.

    NotConnected: no server answers, or the parent's own points could not be sent. ServerRefused: there is no such run.
    """
    from .run_setup import fork_of

    given = tracking_uri
    if isinstance(parent, Run):
        given = given or parent._settings.uri
        if branch is None:
            # What it has rewound, too, must be there before a server is asked for its branch.
            parent.flush()
    settings = Settings.load(given, mode, on_rejection=on_rejection)
    parent_id = parent.id if isinstance(parent, Run) else parent
    return fork_of(settings, parent_id, whole_step(step), branch, experiment, params or {}, name, tags or {}, run_id)
