"""The background thread that sends: one per process and target, for all spools that go there, until the other side has everything."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from runfold.errors import NotConnected, ServerRefused
from runfold.run_creation import Creation
from runfold.spool.frames import Kind
from runfold.transports.base import Experiment, KnownRun, Never, Parent, Transport, TryAgain
from runfold_schemas.codec.batch import MAX_BATCH_BYTES, MAX_BATCH_RECORDS, decode_item, encode_item
from runfold_schemas.errors import SchemaError

from .outbox import Letter, Outbox

_log = logging.getLogger("runfold")

MOST_BYTES_AT_ONCE = 4 * 1024 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
_RESOLVE_TIMEOUT = 10.0
_IDLE_END = 5.0
Sending = tuple[Outbox, Letter, bytes]


class Shipper:
    """Sends what outboxes hold, each in its order, one request at a time; records of many runs share a request.

    Nothing is encoded here: what is sent again carries the same event ids and sequences, and the fold drops what it has.
    The thread is a daemon, since a hanging request must not keep the interpreter alive, and ends when it has been idle.
    """

    def __init__(self, open_transport: Callable[[], Transport]) -> None:
        self._open_transport = open_transport
        self._transport: Transport | None = None
        self._users = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._outboxes: list[Outbox] = []
        self._thread: threading.Thread | None = None
        self._woken = self._hurry = False
        self.away = False
        """The latest attempt found nobody, or nobody who could."""

    def add(self, outbox: Outbox) -> None:
        """Send this one too, from now on."""
        with self._lock:
            self._outboxes.append(outbox)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="runfold sender", daemon=True)
                self._thread.start()
            self._woken = True
            self._changed.notify_all()

    def remove(self, outbox: Outbox) -> None:
        """Send nothing more of it."""
        outbox.close()
        with self._lock:
            if outbox in self._outboxes:
                self._outboxes.remove(outbox)
            # Others may have waited for it.
            self._woken = True
            self._changed.notify_all()

    def wake(self, *, hurry: bool = False) -> None:
        """An outbox has something; with `hurry` somebody waits for it, so a pause between attempts is cut short once."""
        with self._lock:
            self._woken = True
            self._hurry = self._hurry or hurry
            self._changed.notify_all()

    def find_experiment(self, name: str, timeout: float) -> Experiment:
        """See Transport.find_experiment."""
        with self._using() as transport:
            return transport.find_experiment(name, timeout)

    def find_run(self, run_id: str, timeout: float) -> KnownRun | None:
        """See Transport.find_run."""
        with self._using() as transport:
            return transport.find_run(run_id, timeout)

    def find_parent(self, run_id: str, timeout: float) -> Parent:
        """See Transport.find_parent."""
        with self._using() as transport:
            return transport.find_parent(run_id, timeout)

    @contextmanager
    def _using(self) -> Iterator[Transport]:
        with self._lock:
            self._users += 1
            if self._transport is None:
                self._transport = self._open_transport()
            transport = self._transport
        try:
            yield transport
        finally:
            with self._lock:
                self._users -= 1
                idle = self._users == 0 and self._thread is None
                if idle:
                    self._transport = None
            if idle:
                transport.close()

    def _work(self) -> None:
        while True:
            try:
                with self._using() as transport:
                    while outboxes := self._ready():
                        self._round(transport, outboxes)
                return
            except Exception as error:
                # Such as one of want of memory or of files, which passes: a training that lives on must not be given up.
                if not self.away:
                    _log.exception("runfold: sending failed for a reason that should not exist; trying again")
                with self._lock:
                    outboxes = list(self._outboxes)
                self._note_away(outboxes, f"{type(error).__name__}: {error}")
                self._pause(LONGEST_PAUSE / 2)

    def _ready(self) -> list[Outbox]:
        """Wait until outboxes have something. Empty: there was nothing to do for a while, and the thread has been let go."""
        with self._lock:
            while True:
                ready = [outbox for outbox in self._outboxes if outbox.waiting()]
                if ready:
                    self._woken = False
                    return ready
                idle_since = time.monotonic()
                while not self._woken:
                    self._changed.wait(_IDLE_END)
                    if not self._outboxes and not self._woken and time.monotonic() - idle_since >= _IDLE_END:
                        self._thread = None
                        return []
                self._woken = False

    def _round(self, transport: Transport, outboxes: Sequence[Outbox]) -> None:
        """Send the first part of every outbox that has one."""
        facts: list[Sending] = []
        metrics: list[Sending] = []
        size = 0
        for outbox in outboxes:
            try:
                letters = outbox.next(max(1, MOST_BYTES_AT_ONCE - size))
            except OSError as error:
                self._note_away([outbox], f"the spool can't be read: {error}")
                self._pause(LONGEST_PAUSE / 10)
                continue
            for letter in letters:
                item = letter.frame.payload
                if letter.frame.kind is Kind.CREATION:
                    completed = self._complete(transport, outbox, item)
                    if completed is None:
                        break
                    item = completed
                (metrics if letter.frame.kind is Kind.METRICS else facts).append((outbox, letter, item))
                size += len(item)
            if size >= MOST_BYTES_AT_ONCE:
                break
        # What could not be sent this time comes last the next time.
        with self._lock:
            self._outboxes = [o for o in self._outboxes if o not in outboxes] + [
                o for o in self._outboxes if o in outboxes
            ]
        for sendings, outcome in ((facts, True), (metrics, False)):
            for part in _requests(sendings):
                if not self._deliver(transport, part, outcome=outcome):
                    return

    def _complete(self, transport: Transport, outbox: Outbox, payload: bytes) -> bytes | None:
        """The record that creates the run; None: not now, or not before somebody has done something."""
        try:
            creation = Creation.read(payload)
            outbox.experiment = transport.find_experiment(
                outbox.other_experiment or creation.experiment, _RESOLVE_TIMEOUT
            )
            return encode_item(creation.record(outbox.experiment))
        except NotConnected as error:
            self._note_away([outbox], str(error))
            self._pause(LONGEST_PAUSE / 10)
            return None
        except ServerRefused as error:
            outbox.block(str(error))
            _log.error("runfold: run %s can't be created, its data stays in the spool: %s", outbox.name, error)
            return None
        except (ValueError, TypeError, SchemaError) as error:
            # Of another release, or made by hand: no reason to keep the others from being sent.
            outbox.block(f"its creation can't be read: {type(error).__name__}: {error}")
            return None

    def _deliver(self, transport: Transport, sendings: Sequence[Sending], *, outcome: bool) -> bool:
        """Send until the other side has taken or refused the records. False: all their outboxes were closed before that."""
        longest = FIRST_PAUSE
        outboxes = list(dict.fromkeys(outbox for outbox, _, _ in sendings))
        while any(outbox.waiting() for outbox in outboxes):
            try:
                results = transport.append([item for _, _, item in sendings], outcome=outcome)
            except TryAgain as error:
                self._note_away(outboxes, str(error))
                # Jitter on both: many ranks lose their server at the same moment.
                least = longest / 2 if error.after is None else error.after
                self._pause(
                    random.uniform(least, 1.2 * least if error.after is not None else longest), asked=error.after
                )
                longest = min(2 * longest, LONGEST_PAUSE)
                continue
            except Never as error:
                if not error.about_records:
                    # A wrong address or a missing right is no reason to throw data away.
                    self._note_away(outboxes, str(error))
                    self._pause(longest)
                    longest = min(2 * longest, LONGEST_PAUSE)
                    continue
                if len(sendings) > 1:
                    # A server refuses a batch for one bad record: the others must not share its lot.
                    half = len(sendings) // 2
                    return self._deliver(transport, sendings[:half], outcome=outcome) and self._deliver(
                        transport, sendings[half:], outcome=outcome
                    )
                if error.on_the_way:
                    # Who set that bound can lift it: no reason to throw data away, nor for the others to wait.
                    self._hold(sendings[0][0], error)
                    return False
                self._refused(sendings[0][0], f"events were not taken: {error}")
            else:
                for (outbox, _, item), result in zip(sendings, results, strict=True):
                    if result.refused:
                        why = (
                            f"{_type_of(item)} was {result.outcome.replace('_', ' ')}: {result.message or result.code}"
                        )
                        self._refused(outbox, why)
            self._note_back()
            for outbox in outboxes:
                outbox.settle([letter for owner, letter, _ in sendings if owner is outbox])
            return True
        return False

    def _pause(self, seconds: float, *, asked: float | None = None) -> None:
        """Wait; somebody's hurry ends it early, unless the server asked for so long a pause."""
        until = time.monotonic() + seconds
        with self._lock:
            self._hurry = False
            while (left := until - time.monotonic()) > 0 and self._outboxes:
                if self._hurry and asked is None:
                    break
                self._changed.wait(left)
            self._hurry = False

    def _note_away(self, outboxes: Sequence[Outbox], why: str) -> None:
        for outbox in outboxes:
            outbox.fail(why)
        if not self.away:
            self.away = True
            _log.warning("runfold: %s; what is logged is kept on disk, trying again", why)

    def _note_back(self) -> None:
        if self.away:
            self.away = False
            _log.warning("runfold: the server takes events again")

    def _hold(self, outbox: Outbox, error: Never) -> None:
        outbox.block(str(error))
        _log.error(
            "runfold: run %s: a record is too large on the way, it and what follows stays in the spool: %s",
            outbox.name,
            error,
        )

    def _refused(self, outbox: Outbox, problem: str) -> None:
        if outbox.refuse(problem):
            _log.warning("runfold: run %s: %s", outbox.name, problem)


def _requests(sendings: Sequence[Sending]) -> Iterator[Sequence[Sending]]:
    """Cut into parts that a request may hold: one row can be larger, by many keys."""
    part: list[Sending] = []
    size = 0
    for sending in sendings:
        if part and (size + len(sending[2]) > MAX_BATCH_BYTES // 2 or len(part) >= MAX_BATCH_RECORDS):
            yield part
            part, size = [], 0
        part.append(sending)
        size += len(sending[2])
    if part:
        yield part


def _type_of(item: bytes) -> str:
    kind = next((value for name, value in decode_item(item).headers if name == "ce_type"), b"an event")
    return kind.decode().rpartition(".")[2]


class Shippers:
    """The shippers of this process, one per target."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_uri: dict[str, Shipper] = {}

    def to(self, uri: str) -> Shipper:
        """The one for a target. SdkError: no transport is known for such a URI."""
        # Imported on first use: `import runfold` stays light.
        from runfold.transports.opener import opener

        open_transport = opener(uri)
        with self._lock:
            return self._by_uri.setdefault(uri, Shipper(open_transport))

    def forget(self) -> None:
        """In a forked child: the threads stayed with the parent."""
        self.__init__()  # type: ignore[misc]


shippers = Shippers()
