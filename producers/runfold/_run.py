"""A run as training code sees it. Nothing heavy is imported here: `run` brings the contract and HTTP when it is called."""

import atexit
import getpass
import logging
import operator
import os
import random
import socket
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from runfold_schemas.ids import Ids

from .buffer import Buffer
from .errors import NotConnected, ServerRefused
from .names import run_name
from .rows import RowReader, flatten
from .settings import Settings

if TYPE_CHECKING:
    from runfold_schemas.events import Fact

    from .encoding import RunEncoder
    from .experiments import Experiment
    from .http import HttpTransport
    from .shipper import Shipper

_log = logging.getLogger("runfold")

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]
_END_STATUSES = ("FINISHED", "FAILED", "KILLED")


def run(
    experiment: str = "Default",
    params: Mapping[str, Any] | None = None,
    name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
) -> "Run":
    """Start a run of an experiment, which is created if there is none of that name.

    `tracking_uri` is the server's address; without it RUNFOLD_TRACKING_URI, else http://127.0.0.1:5000. `params` can't change
    later, `tags` can; values become strings, nested dicts are joined with "/". Without a name, one is made up.

    Use the run in a `with` block: it ends as FINISHED, as FAILED when an exception passes, as KILLED on Ctrl-C.

    NotConnected: no server answers there. ServerRefused: the experiment is deleted or its name is not allowed.
    ValueError or TypeError: a param or tag that can't be stored.
    """
    from runfold_schemas.events import ParamsLogged, RunCreated

    from .encoding import RunEncoder, checked
    from .experiments import find_or_create
    from .http import HttpTransport
    from .shipper import Shipper

    settings = Settings.load(tracking_uri)
    ids = Ids()
    run_id = ids.run_id()
    first_params = checked(ParamsLogged, run_id=run_id, params=_strings(params or {}, "param"))
    first_tags = _strings(tags or {}, "tag")
    transport = HttpTransport(settings.uri)
    try:
        found = find_or_create(transport, experiment, settings.connect_timeout)
        created = checked(
            RunCreated,
            run_id=run_id,
            experiment_id=int(found.id),
            name=name or run_name(random.Random()),
            user_id=_user(),
            start_ms=ids.now_ms(),
            artifact_uri=f"{found.artifact_location.rstrip('/')}/{run_id}/artifacts",
            tags=first_tags,
        )
        buffer = Buffer(settings.buffer_bytes, settings.frame_bytes, settings.linger)
        encoder = RunEncoder(run_id, ids, node=socket.gethostname()[:250])
        started = Run(run_id, found, settings, buffer, encoder, transport, Shipper(buffer, encoder, transport, run_id))
        started._begin([created, *([first_params] if params else [])])
    except BaseException:
        transport.close()
        raise
    return started


class Run:
    """A run that takes points, params and tags until it is finished. Made by `runfold.run`; thread-safe.

    What is logged waits in memory (64 MB; RUNFOLD_BUFFER_MB) until the server has acknowledged it. When the server is away for longer
    than that lasts, new points are refused: counted in `refused`, with one warning; the training loop never waits. What a killed
    process had not sent is lost: a spool on disk is still to come.
    """

    def __init__(
        self,
        run_id: str,
        experiment: "Experiment",
        settings: Settings,
        buffer: Buffer,
        encoder: "RunEncoder",
        transport: "HttpTransport",
        shipper: "Shipper",
    ) -> None:
        self._id, self._experiment, self._settings = run_id, experiment, settings
        self._buffer, self._encoder, self._transport, self._shipper = buffer, encoder, transport, shipper
        self._reader = RowReader()
        # Sequence and place in the buffer must be taken together.
        self._facts = threading.Lock()
        self._finished = self._told_full = False

    @property
    def id(self) -> str:
        """The run's id: 32 hexadecimal digits."""
        return self._id

    @property
    def experiment_id(self) -> str:
        """Id of its experiment."""
        return self._experiment.id

    @property
    def url(self) -> str:
        """Where the web page shows it."""
        return f"{self._settings.uri}/#/experiments/{self.experiment_id}/runs/{self.id}"

    @property
    def refused(self) -> int:
        """How many points were not taken because the buffer was full."""
        return self._buffer.refused.points

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers under their names, as one row at a step; without a step, the last one plus 1, from 0. Returns at once.

        Numbers are int, float, bool and what has `.item()`, such as NumPy's and PyTorch's scalars; NaN and infinities count.
        Nested dicts are joined with "/". The time is this machine's, in ms. TypeError and ValueError name what can't be logged; then
        nothing of the call is. SdkError: the run is finished.
        """
        if step is not None and type(step) is not int:
            step = _index(step)
        keys, values = self._reader.read(metrics)
        if values and not self._buffer.add_row(keys, values, step):
            self._tell_full()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log params, which can't change: another value for a known name is refused as a whole, told by a warning and at the end."""
        from runfold_schemas.events import ParamsLogged

        from .encoding import checked

        self._add(checked(ParamsLogged, run_id=self.id, params=_strings(params, "param")))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags, or change them."""
        from runfold_schemas.events import TagsSet

        from .encoding import checked

        self._add(checked(TagsSet, run_id=self.id, tags=_strings(tags, "tag")))

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until the server has acknowledged all that was logged before; NotConnected if it has not after `timeout` seconds."""
        if not self._buffer.wait(timeout):
            points, facts = self._buffer.left()
            why = self._shipper.last_error or "it is slow"
            raise NotConnected(f"{points} points and {facts} facts are not acknowledged by {self._settings.uri}: {why}")

    def finish(self, status: EndStatus = "FINISHED") -> None:
        """End the run and wait until all is sent, at most 60 s (RUNFOLD_FINISH_TIMEOUT); what is lost then is logged as an error.

        ServerRefused: the server refused something that the run logged. A second call does nothing.
        """
        if status not in _END_STATUSES:
            raise ValueError(f"status {status!r}: one of {', '.join(_END_STATUSES)}")
        if self._end(status) and self._shipper.problems:
            problems = "; ".join(self._shipper.problems)
            raise ServerRefused(f"run {self.id}: {self._shipper.refusals} events were refused: {problems}")

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

    def _begin(self, facts: "list[Fact]") -> None:
        for fact in facts:
            self._add(fact)
        self._shipper.start()
        _open_runs.add(self)

    def _add(self, fact: "Fact", *, last: bool = False) -> None:
        with self._facts:
            taken = self._buffer.add_control(self._encoder.fact(fact), last=last)
        if not taken:
            self._tell_full()

    def _end(self, status: EndStatus) -> bool:
        """False: it was ended before."""
        from runfold_schemas.events import RunUpdated

        from .encoding import checked

        with self._facts:
            if self._finished:
                return False
            self._finished = True
        try:
            self._add(checked(RunUpdated, run_id=self.id, status=status, end_ms=Ids().now_ms()), last=True)
            self._buffer.wait(self._settings.finish_timeout)
        finally:
            self._shipper.stop()
            self._transport.close()
            _open_runs.discard(self)
        points, facts = self._buffer.left()
        refused = self._buffer.refused
        if points or facts or refused.points or refused.facts:
            _log.error(
                "runfold: run %s lost %d points and %d facts that were not acknowledged, %d and %d that the full buffer refused; %s",
                self.id, points, facts, refused.points, refused.facts, self._shipper.last_error,
            )  # fmt: skip
        return True

    def _tell_full(self) -> None:
        if not self._told_full:
            self._told_full = True
            _log.warning(
                "runfold: the buffer of run %s is full (%d MB, RUNFOLD_BUFFER_MB): new points are refused until the server has taken some; %s",
                self.id, self._settings.buffer_bytes >> 20, self._shipper.last_error,
            )  # fmt: skip

    def _disown(self) -> None:
        """In a forked child: the thread and the right to end the run stayed with the parent."""
        self._finished = True
        self._facts = threading.Lock()
        self._buffer = Buffer(1, 1, 0.0)
        self._buffer.close(f"run {self.id} belongs to the process that started it, not to its forked child")


def _strings(tree: Mapping[str, Any], what: str) -> dict[str, str]:
    if not isinstance(tree, Mapping):
        raise TypeError(f"{what}s must be a dict, not {type(tree).__qualname__}")
    return {name: str(value) for name, value in flatten(tree, what)}


def _index(step: Any) -> int:
    try:
        return operator.index(step)
    except TypeError:
        raise TypeError(f"step must be a whole number, not {type(step).__qualname__} {step!r}") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


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
    for left in _open_runs:
        left._disown()
    _open_runs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_open_runs)
