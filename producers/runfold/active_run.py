"""The `Run` object of training code. Heavy modules are imported when they are needed, to keep `import runfold` fast."""

import atexit
import logging
import os
import sys
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from runfold.pipeline.columns import doubles, flat, whole_steps, width_of
from runfold.pipeline.param_groups import ParamGroups
from runfold.pipeline.rows import RowReader, strings, tag_strings, whole_step
from runfold_schemas.ids import Ids

from . import exit_code
from .errors import ServerRefused
from .settings import Settings

if TYPE_CHECKING:
    from runfold.pipeline.run_writer import RunWriter

_log = logging.getLogger("runfold")
Ranks = Literal["own", "all"]
EndStatus = Literal["FINISHED", "FAILED", "KILLED"]
_END_STATUSES = ("FINISHED", "FAILED", "KILLED")


class Run:
    """An active run. Created by `runfold.run`; thread-safe.

    Logged data is on disk (in the spool) within a second, and stays there until the server acknowledges it. The
    training loop never waits for that. When the spool is full (RUNFOLD_SPOOL_MB), new points are dropped with a
    warning, and counted in `refused`.
    """

    def __init__(
        self, run_id: str, settings: Settings, writer: "RunWriter", *, ends: bool, shared: bool = False
    ) -> None:
        self._id, self._settings, self._writer, self._ends = run_id, settings, writer, ends
        self._params = ParamGroups(shared=shared)
        self._reader = RowReader()
        self._add_row = writer.add_row
        self._end_lock = threading.Lock()
        self._finished = False
        exit_code.watch()
        _open_runs.add(self)

    @property
    def id(self) -> str:
        """Id of the run, 32 hexadecimal digits."""
        return self._id

    @property
    def experiment_id(self) -> str | None:
        """Id of the experiment; None until a server has answered."""
        experiment = self._writer.outbox.experiment
        return experiment.id if experiment else None

    @property
    def url(self) -> str:
        """Address of the run's web page."""
        where = f"experiments/{self.experiment_id}/runs" if self.experiment_id else "runs"
        return f"{self._settings.web}/#/{where}/{self.id}"

    @property
    def refused(self) -> int:
        """Number of points dropped because the spool or its memory buffer was full."""
        return self._writer.dropped[0]

    @property
    def spool(self) -> Path:
        """Directory of the data that is not acknowledged yet."""
        return self._writer.directory

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics at a step. Returns immediately.

        `step` defaults to the last step plus 1, starting at 0. Values are int, float, bool, or scalars with
        `.item()`, such as those of NumPy and PyTorch; NaN and infinities are allowed. None is left out, with one
        warning per metric. Keys of nested dicts are joined with "/". The timestamp is this machine's time in ms.

        TypeError or ValueError names the invalid metric; nothing of the call is logged then. SdkError if the run is
        finished.
        """
        if step is not None and type(step) is not int:
            step = whole_step(step)
        keys, values = self._reader.read(metrics)
        if values:
            self._add_row(keys, values, step)

    def log_series(self, key: str, steps: Any, values: Any) -> None:
        """Log many points of one metric at once, about as fast as the arrays can be copied.

        `steps` and `values` are arrays (NumPy, PyTorch, array) or sequences of equal length. `steps` None continues
        from the last step by ones. TypeError or ValueError describes invalid data; nothing of the call is logged
        then.
        """
        self._log_columns((key,), steps, doubles(values, f"metric {key!r}"))

    def log_rows(self, keys: Sequence[str], steps: Any, values: Any) -> None:
        """Log many rows at once: `values[r][k]` is the value of `keys[k]` in row r.

        `values` is a two-dimensional array or a sequence of rows. Otherwise like `log_series`.
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
        """Log params, which can't change later.

        A different value for a known name is rejected, with a warning now and at the end of the run. The others are
        kept.
        """
        # Imported in these methods because the schemas bring pydantic and fastavro.
        from runfold.pipeline.encoder import checked
        from runfold_schemas.events.runs import ParamsLogged

        whole = checked(ParamsLogged, run_id=self.id, params=strings(params, "param"))
        for part in self._params.split(whole.params):
            self._writer.add_fact(checked(ParamsLogged, run_id=self.id, params=part))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set or change tags."""
        from runfold.pipeline.encoder import checked
        from runfold_schemas.events.runs import TagsSet

        self._writer.add_fact(checked(TagsSet, run_id=self.id, tags=tag_strings(tags)))

    def rewind(self, step: int, ranks: Ranks = "own") -> None:
        """Go back to an earlier step: points at later steps leave the series and stay in the history.

        The next step defaults to `step` plus 1. `ranks` "own" rewinds this process's rank, so every process of a job
        must call it. `ranks` "all" rewinds all ranks at once; no other process may log meanwhile. A process without a
        rank always rewinds everything.
        """
        from runfold.pipeline.encoder import checked
        from runfold_schemas.events.metrics import RunRewound

        if ranks not in ("own", "all"):
            raise ValueError(f"ranks={ranks!r} must be own or all")
        step = whole_step(step)
        everyone = ranks == "all" or self._writer.rank is None
        self._writer.add_branch_event(checked(RunRewound, run_id=self.id, step=step, all_ranks=everyone), step)

    def save(self) -> bool:
        """Save all logged data to disk, without waiting for a server. It then survives a kill of this process.

        Call it before a checkpoint takes effect, because training will not repeat the steps before it. Returns False if
        the data could not be written.
        """
        return self._writer.save()

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until the server has acknowledged all logged data, or offline, until it is on disk.

        NotConnected after `timeout` seconds.
        """
        self._writer.flush(timeout)

    def finish(self, status: EndStatus = "FINISHED") -> None:
        """End the run. Waits up to 60 s (RUNFOLD_FINISH_TIMEOUT) for acknowledgement.

        Anything still unacknowledged stays in the spool. If several processes write the run, rank 0 ends it; the others
        only send their data. Rejected events cause a warning, or ServerRefused with on_rejection "raise". A second call
        does nothing.
        """
        if status not in _END_STATUSES:
            raise ValueError(f"status={status!r} must be one of {', '.join(_END_STATUSES)}")
        outbox = self._writer.outbox
        if self._end(status) and outbox.problems:
            self._report_rejections(
                f"run {self.id}: {outbox.rejections} events were rejected: {'; '.join(outbox.problems)}"
            )

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

    def _report_rejections(self, message: str) -> None:
        if self._settings.raise_rejections:
            raise ServerRefused(message)
        _log.warning("runfold: %s. All other events were accepted", message)

    def _end(self, status: EndStatus) -> bool:
        """End the run, and return False if it had ended before."""
        if not self._begin_end():
            return False
        try:
            self._add_end(status)
        finally:
            self._writer.close(self._settings.finish_timeout)
        return True

    def _begin_end(self) -> bool:
        with self._end_lock:
            if self._finished:
                return False
            self._finished = True
        _open_runs.discard(self)
        return True

    def _add_end(self, status: EndStatus) -> None:
        from runfold.pipeline.encoder import checked
        from runfold_schemas.events.runs import RunUpdated

        if self._ends:
            end = checked(RunUpdated, run_id=self.id, status=status, end_ms=Ids().now_ms())
            self._writer.add_fact(end, last=True)

    def _disown(self) -> None:
        """Detach in a forked child: the threads belong to the parent, and only the parent may end the run."""
        self._finished = True
        self._writer.disown(
            f"run {self.id} belongs to the process that started it, not to its forked child; "
            f"join it there with runfold.run(run_id={self.id!r})"
        )


def _status_after(error: BaseException | None) -> EndStatus:
    if isinstance(error, KeyboardInterrupt):
        return "KILLED"
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "FINISHED"
    return "FAILED"


_open_runs: set[Run] = set()


@atexit.register
def _finish_open_runs() -> None:
    # The exception that ended the script. At a prompt it may be any earlier one.
    error: BaseException | None = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
    if error is None:
        error = SystemExit(exit_code.exit_code())
    runs = [run for run in list(_open_runs) if run._begin_end()]
    # Save all runs before waiting for any, and share one timeout among them.
    for run in runs:
        run._add_end(_status_after(error))
        run._writer.save()
    until = time.monotonic() + max((run._settings.finish_timeout for run in runs), default=0.0)
    for run in runs:
        run._writer.close(max(0.0, until - time.monotonic()))


def _disown_open_runs() -> None:
    for run in list(_open_runs):
        run._disown()
    _open_runs.clear()
    # Not imported here: a process that never started a run has nothing to reset.
    for name, shared in (("flusher", "flush_thread"), ("sender", "senders")):
        module = sys.modules.get(f"{__package__}.pipeline.{name}")
        if module is not None:
            getattr(module, shared).reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_open_runs)
