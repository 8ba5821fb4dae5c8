"""A run as training code sees it. Nothing heavy is imported here: `run` brings the contract and HTTP when it is called."""

import atexit
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
from runfold.pipeline.rows import RowReader, strings, tag_texts, whole_step
from runfold_schemas.ids import Ids

from . import exit_code
from .errors import ServerRefused
from .settings import Settings

if TYPE_CHECKING:
    from runfold.pipeline.run_writer import RunWriter

Ranks = Literal["own", "all"]
EndStatus = Literal["FINISHED", "FAILED", "KILLED"]
_END_STATUSES = ("FINISHED", "FAILED", "KILLED")


class Run:
    """A run that takes points, params and tags until it is finished. Made by `runfold.run`; thread-safe.

    What is logged is on disk within a second, in the spool, and stays there until the server has acknowledged it. The training loop
    never waits for that. When the spool is full (RUNFOLD_SPOOL_MB), new points are refused: counted in `refused`, with a warning.
    """

    def __init__(
        self, run_id: str, settings: Settings, writer: "RunWriter", *, ends: bool, shared: bool = False
    ) -> None:
        self._id, self._settings, self._writer, self._ends = run_id, settings, writer, ends
        self._params = ParamGroups(shared=shared)
        self._reader = RowReader()
        self._add_row = writer.add_row
        self._ending = threading.Lock()
        self._finished = False
        exit_code.watch()
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
        None is left out, with one warning per name. Nested dicts are joined with "/". The time is this machine's, in ms. TypeError and ValueError name what can't be logged; then
        nothing of the call is. SdkError: the run is finished.
        """
        if step is not None and type(step) is not int:
            step = whole_step(step)
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
        """Log params, which can't change: another value for a known name is refused, told by a warning and at the end; the others count."""
        # Imported on first use: `import runfold` stays light.
        from runfold.pipeline.encoder import checked
        from runfold_schemas.events.runs import ParamsLogged

        whole = checked(ParamsLogged, run_id=self.id, params=strings(params, "param"))
        for part in self._params.cut(whole.params):
            self._writer.add_fact(checked(ParamsLogged, run_id=self.id, params=part))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags, or change them."""
        from runfold.pipeline.encoder import checked
        from runfold_schemas.events.runs import TagsSet

        self._writer.add_fact(checked(TagsSet, run_id=self.id, tags=tag_texts(tags)))

    def rewind(self, step: int, ranks: Ranks = "own") -> None:
        """Training goes back to this step: points logged before at greater steps are cut off from the series, and stay in the history.

        It is about this process's rank, so every process of a job says it for itself; ranks "all" is for one that says it for all,
        while the others log nothing. A process that is alone, without a rank, always speaks for all. Steps go on behind `step`.
        """
        from runfold.pipeline.encoder import checked
        from runfold_schemas.events.metrics import RunRewound

        if ranks not in ("own", "all"):
            raise ValueError(f"ranks {ranks!r}: own or all")
        step = whole_step(step)
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
        What the server refused is told by a warning; with on_rejection "raise" ServerRefused is raised. A second call does nothing.
        """
        if status not in _END_STATUSES:
            raise ValueError(f"status {status!r}: one of {', '.join(_END_STATUSES)}")
        outbox = self._writer.outbox
        if self._end(status) and outbox.problems:
            self._tell_refusals(f"run {self.id}: {outbox.refusals} events were refused: {'; '.join(outbox.problems)}")

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

    def _tell_refusals(self, told: str) -> None:
        if self._settings.raise_rejections:
            raise ServerRefused(told)
        import logging

        logging.getLogger("runfold").warning("runfold: %s; all else of it counts", told)

    def _end(self, status: EndStatus) -> bool:
        """False: it was ended before."""
        if not self._begin_end():
            return False
        try:
            self._say_end(status)
        finally:
            self._writer.close(self._settings.finish_timeout)
        return True

    def _begin_end(self) -> bool:
        with self._ending:
            if self._finished:
                return False
            self._finished = True
        _open_runs.discard(self)
        return True

    def _say_end(self, status: EndStatus) -> None:
        from runfold.pipeline.encoder import checked
        from runfold_schemas.events.runs import RunUpdated

        if self._ends:
            end = checked(RunUpdated, run_id=self.id, status=status, end_ms=Ids().now_ms())
            self._writer.add_fact(end, last=True)

    def _disown(self) -> None:
        """In a forked child: the threads and the right to end the run stayed with the parent."""
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
    # What the interpreter printed a traceback for; at a prompt that was any earlier slip.
    error: BaseException | None = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
    if error is None:
        error = SystemExit(exit_code.exit_code())
    ours = [left for left in list(_open_runs) if left._begin_end()]
    # All are on disk before one is waited for, and all together are waited for as long as one.
    for left in ours:
        left._say_end(_status_after(error))
        left._writer.save()
    until = time.monotonic() + max((left._settings.finish_timeout for left in ours), default=0.0)
    for left in ours:
        left._writer.close(max(0.0, until - time.monotonic()))


def _disown_open_runs() -> None:
    for left in list(_open_runs):
        left._disown()
    _open_runs.clear()
    for name, shared in (("flusher", "pump"), ("sender", "shippers")):
        module = sys.modules.get(f"{__package__}.pipeline.{name}")
        if module is not None:
            getattr(module, shared).forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_open_runs)
