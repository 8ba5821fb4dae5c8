"""A run as training code sees it. Nothing heavy is imported here: `run` brings the contract and HTTP when it is called."""

import atexit
import operator
import os
import sys
import threading
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from runfold_schemas.ids import Ids

from .errors import ServerRefused
from .rows import RowReader, flatten
from .series import doubles, flat, whole_steps, width_of
from .settings import Settings

if TYPE_CHECKING:
    from .writing import RunWriter

Mode = Literal["online", "offline"]
Ranks = Literal["own", "all"]
EndStatus = Literal["FINISHED", "FAILED", "KILLED"]
_END_STATUSES = ("FINISHED", "FAILED", "KILLED")


def run(
    experiment: str = "Default",
    params: Mapping[str, Any] | None = None,
    name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
    *,
    mode: Mode | None = None,
    run_id: str | None = None,
    start_step: int | None = None,
) -> "Run":
    """Start a run of an experiment, which is created if there is none of that name.

    `tracking_uri` is the server's address, or `kafka://brokers/namespace?api=http://…` to write to Kafka directly; without it
    RUNFOLD_TRACKING_URI, else http://127.0.0.1:5000. `params` can't change
    later, `tags` can; values become strings, nested dicts are joined with "/". Without a name, one is made up.
    With mode "offline" (or RUNFOLD_MODE) nothing is sent: what is logged waits on disk for the next run, or for `runfold sync`.
    `run_id` joins a run that exists, or is to be written by several processes; without it the launcher's environment decides.
    `start_step` says that training resumes from the checkpoint of that step: what earlier attempts logged at greater steps is cut
    off from the series, and stays in the history. Every process of the job may say it.

    If no server answers, the run starts all the same, with a warning, and is sent when one does (RUNFOLD_REQUIRE_SERVER: NotConnected).
    Use the run in a `with` block: it ends as FINISHED, as FAILED when an exception passes, as KILLED on Ctrl-C.

    ServerRefused: the experiment is deleted or its name is not allowed. ValueError or TypeError: a param or tag that can't be
    stored. SdkError: a setting that can't be used.
    """
    from .starting import start

    settings = Settings.load(tracking_uri, mode)
    step = None if start_step is None else _index(start_step)
    return start(settings, experiment, params or {}, name, tags or {}, run_id, start_step=step)


def fork(
    parent: "Run | str",
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
) -> "Run":
    """Start a run that inherits another's history up to a step, without copying it: its points as they are effective now.

    Whatever the parent logs on a new branch, or cuts off, later, changes nothing of that. The parent is a run or its id. The run is created in the
    parent's experiment unless one is named; params and tags are not inherited, but for the tags `runfold.forkedFrom` and
    `runfold.forkedAt`. A server is asked on which branch the parent is, unless `branch` and `experiment` say it. Otherwise as `run`.

    NotConnected: no server answers, or the parent's own points could not be sent. ServerRefused: there is no such run.
    """
    from .starting import fork_of

    given = tracking_uri
    if isinstance(parent, Run):
        given = given or parent._settings.uri
        if branch is None:
            # What it has rewound, too, must be there before a server is asked for its branch.
            parent.flush()
    settings = Settings.load(given, mode)
    parent_id = parent.id if isinstance(parent, Run) else parent
    return fork_of(settings, parent_id, _index(step), branch, experiment, params or {}, name, tags or {}, run_id)


class Run:
    """A run that takes points, params and tags until it is finished. Made by `runfold.run`; thread-safe.

    What is logged is on disk within a second, in the spool, and stays there until the server has acknowledged it. The training loop
    never waits for that. When the spool is full (RUNFOLD_SPOOL_MB), new points are refused: counted in `refused`, with a warning.
    """

    def __init__(self, run_id: str, settings: Settings, writer: "RunWriter", *, ends: bool) -> None:
        self._id, self._settings, self._writer, self._ends = run_id, settings, writer, ends
        self._reader = RowReader()
        self._add_row = writer.add_row
        self._ending = threading.Lock()
        self._finished = False
        _open_runs.add(self)

    @property
    def id(self) -> str:
        """The run's id: 32 hexadecimal digits."""
        return self._id

    @property
    def experiment_id(self) -> str | None:
        """Id of its experiment; None as long as no server has told it."""
        experiment = self._writer.outbox.experiment
        return experiment.id if experiment else None

    @property
    def url(self) -> str:
        """Where the web page shows it."""
        where = f"experiments/{self.experiment_id}/runs" if self.experiment_id else "runs"
        return f"{self._settings.web}/#/{where}/{self.id}"

    @property
    def refused(self) -> int:
        """How many points were not taken because the spool or the memory for it was full."""
        return self._writer.refused[0]

    @property
    def spool(self) -> Path:
        """Directory of what is not acknowledged yet."""
        return self._writer.directory

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers under their names, as one row at a step; without a step, the last one plus 1, from 0. Returns at once.

        Numbers are int, float, bool and what has `.item()`, such as NumPy's and PyTorch's scalars; NaN and infinities count.
        Nested dicts are joined with "/". The time is this machine's, in ms. TypeError and ValueError name what can't be logged; then
        nothing of the call is. SdkError: the run is finished.
        """
        if step is not None and type(step) is not int:
            step = _index(step)
        keys, values = self._reader.read(metrics)
        if values:
            self._add_row(keys, values, step)

    def log_series(self, key: str, steps: Any, values: Any) -> None:
        """Log many points of one key at once: arrays (NumPy, PyTorch, array) or sequences of equal length; steps None: go on by one.

        As fast as the arrays can be copied. TypeError and ValueError say what can't be logged; then nothing of the call is.
        """
        self._log_columns((key,), steps, doubles(values, f"metric {key!r}"))

    def log_rows(self, keys: Sequence[str], steps: Any, values: Any) -> None:
        """Log many rows at once: `values[r][k]` is key k at row r, as a two-dimensional array or a sequence of rows.

        Otherwise as `log_series`.
        """
        keys = tuple(keys)
        width = width_of(values)
        if width is None:
            numbers = flat(values, len(keys))
        else:
            if width != len(keys):
                raise ValueError(f"values have {width} columns for {len(keys)} keys")
            numbers = doubles(values, "values")
        self._log_columns(keys, steps, numbers)

    def _log_columns(self, keys: tuple[str, ...], steps: Any, values: "array[float]") -> None:
        if not values:
            return
        known = self._reader.keys(keys)
        count = len(values) // len(keys)
        given = None if steps is None else whole_steps(steps, count)
        self._writer.add_columns(known, given, values)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log params, which can't change: another value for a known name is refused as a whole, told by a warning and at the end."""
        from runfold_schemas.events import ParamsLogged

        from .encoding import checked

        self._writer.add_fact(checked(ParamsLogged, run_id=self.id, params=strings(params, "param")))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags, or change them."""
        from runfold_schemas.events import TagsSet

        from .encoding import checked

        self._writer.add_fact(checked(TagsSet, run_id=self.id, tags=strings(tags, "tag")))

    def rewind(self, step: int, ranks: Ranks = "own") -> None:
        """Training goes back to this step: points logged before at greater steps are cut off from the series, and stay in the history.

        It is about this process's rank, so every process of a job says it for itself; ranks "all" is for one that says it for all,
        while the others log nothing. A process that is alone, without a rank, always speaks for all. Steps go on behind `step`.
        """
        from runfold_schemas.events import RunRewound

        from .encoding import checked

        if ranks not in ("own", "all"):
            raise ValueError(f"ranks {ranks!r}: own or all")
        step = _index(step)
        everyone = ranks == "all" or self._writer.rank is None
        self._writer.add_turn(checked(RunRewound, run_id=self.id, step=step, all_ranks=everyone), step)

    def save(self) -> bool:
        """Put all that was logged before on disk, without waiting for a server: no kill of this process takes it from there.

        To be called with a checkpoint, before it counts: what training does not repeat must not be lost. False: the disk did not take it.
        """
        return self._writer.save()

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until the server has acknowledged all that was logged before, or offline, until it is on disk.

        NotConnected if it is not after `timeout` seconds.
        """
        self._writer.flush(timeout)

    def finish(self, status: EndStatus = "FINISHED") -> None:
        """End the run and wait until all is sent, at most 60 s (RUNFOLD_FINISH_TIMEOUT); what is not then stays in the spool.

        Of several processes that write a run, the one of rank 0 ends it; the others only send what they have.
        ServerRefused: the server refused something that the run logged. A second call does nothing.
        """
        if status not in _END_STATUSES:
            raise ValueError(f"status {status!r}: one of {', '.join(_END_STATUSES)}")
        outbox = self._writer.outbox
        if self._end(status) and outbox.problems:
            problems = "; ".join(outbox.problems)
            raise ServerRefused(f"run {self.id}: {outbox.refusals} events were refused: {problems}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = _status_after(error)
        if error is None:
            self.finish(status)
        else:
            self._end(status)

    def _end(self, status: EndStatus) -> bool:
        """False: it was ended before."""
        from runfold_schemas.events import RunUpdated

        from .encoding import checked

        with self._ending:
            if self._finished:
                return False
            self._finished = True
        try:
            if self._ends:
                end = checked(RunUpdated, run_id=self.id, status=status, end_ms=Ids().now_ms())
                self._writer.add_fact(end, last=True)
        finally:
            _open_runs.discard(self)
            self._writer.close(self._settings.finish_timeout)
        return True

    def _disown(self) -> None:
        """In a forked child: the threads and the right to end the run stayed with the parent."""
        self._finished = True
        self._writer.disown(
            f"run {self.id} belongs to the process that started it, not to its forked child; "
            f"join it there with runfold.run(run_id={self.id!r})"
        )


def strings(tree: Mapping[str, Any], what: str) -> dict[str, str]:
    """Leaves of nested dicts as texts, under their joined names."""
    if not isinstance(tree, Mapping):
        raise TypeError(f"{what}s must be a dict, not {type(tree).__qualname__}")
    return {name: str(value) for name, value in flatten(tree, what)}


def _index(step: Any) -> int:
    try:
        return operator.index(step)
    except TypeError:
        raise TypeError(f"step must be a whole number, not {type(step).__qualname__} {step!r}") from None


def _status_after(error: BaseException | None) -> EndStatus:
    if isinstance(error, KeyboardInterrupt):
        return "KILLED"
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "FINISHED"
    return "FAILED"


_open_runs: set[Run] = set()


@atexit.register
def _finish_open_runs() -> None:
    # What the interpreter printed a traceback for; at a prompt that was any earlier slip.
    error = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
    for left in list(_open_runs):
        left._end(_status_after(error))


def _disown_open_runs() -> None:
    for left in list(_open_runs):
        left._disown()
    _open_runs.clear()
    for name, shared in (("saving", "pump"), ("shipper", "shippers")):
        module = sys.modules.get(f"{__package__}.{name}")
        if module is not None:
            getattr(module, shared).forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_open_runs)
