"""The sender: a background thread, one per process and tracking URI, that delivers the spools for that URI."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from runfold.errors import NotConnected, ServerRefused
from runfold.spool.frames import FrameKind
from runfold.transports.base import (
    ExistingRun,
    Experiment,
    Misconfigured,
    ParentRun,
    RecordResult,
    Rejected,
    TooLargeForProxy,
    Transport,
    TryAgain,
)
from runfold.transports.opener import transport_opener
from runfold_schemas.codec.batch import MAX_BATCH_BYTES, MAX_BATCH_RECORDS, decode_item, encode_item
from runfold_schemas.errors import SchemaError

from .outbox import Outbox, PendingFrame
from .run_creation import Creation

_log = logging.getLogger("runfold")

_ROUND_BYTES = 4 * 1024 * 1024
"""About how much is read from the spools before it is sent."""
_MIN_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.1, 10.0
"""Bounds of the exponential backoff."""
_BLOCKED_SPOOL_PAUSE_SECONDS = 1.0
"""Pause after one spool could not be read, or its experiment not be found; the others wait for it, too."""
_UNEXPECTED_ERROR_PAUSE_SECONDS = 5.0
_FIND_EXPERIMENT_TIMEOUT_SECONDS = 10.0
_IDLE_SECONDS = 5.0
"""How long the thread stays without a spool to send."""
Delivery = tuple[Outbox, PendingFrame, bytes]
"""A frame on its way: where it comes from, the frame, and the encoded record."""


class Sender:
    """Sends the spools of its outboxes, each in order, one request at a time. Records of many runs share a request.

    Nothing is encoded here: repeated records keep their event ids and sequence numbers, and the folds drop duplicates.
    The thread is a daemon, so a hanging request can't keep the interpreter alive. It ends after some idle seconds.
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
        """The latest attempt failed for a reason other than the records."""

    def add(self, outbox: Outbox) -> None:
        """Start sending an outbox."""
        with self._lock:
            self._outboxes.append(outbox)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="runfold sender", daemon=True)
                self._thread.start()
            self._woken = True
            self._changed.notify_all()

    def remove(self, outbox: Outbox) -> None:
        """Stop sending an outbox, and close it."""
        outbox.close()
        with self._lock:
            if outbox in self._outboxes:
                self._outboxes.remove(outbox)
            # Later attempts at the same run may have waited for this one.
            self._woken = True
            self._changed.notify_all()

    def wake(self, *, hurry: bool = False) -> None:
        """Check the outboxes again. With `hurry`, for a waiting caller, the current backoff pause ends early."""
        with self._lock:
            self._woken = True
            self._hurry = self._hurry or hurry
            self._changed.notify_all()

    def find_experiment(self, name: str, timeout: float) -> Experiment:
        """See Transport."""
        with self._open() as transport:
            return transport.find_experiment(name, timeout)

    def find_run(self, run_id: str, timeout: float) -> ExistingRun | None:
        """See Transport."""
        with self._open() as transport:
            return transport.find_run(run_id, timeout)

    def find_parent(self, run_id: str, timeout: float) -> ParentRun:
        """See Transport."""
        with self._open() as transport:
            return transport.find_parent(run_id, timeout)

    @contextmanager
    def _open(self) -> Iterator[Transport]:
        """Share one transport among all users, and close it after the last one, unless the thread will need it."""
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
                with self._open() as transport:
                    while outboxes := self._wait_for_work():
                        self._send_round(transport, outboxes)
                return
            except Exception as error:
                # Such as too little memory or too many open files, which may pass while the training continues.
                if not self.away:
                    _log.exception("runfold: unexpected error while sending; retrying")
                with self._lock:
                    outboxes = list(self._outboxes)
                self._mark_away(outboxes, f"{type(error).__name__}: {error}")
                self._pause(_UNEXPECTED_ERROR_PAUSE_SECONDS)

    def _wait_for_work(self) -> list[Outbox]:
        """Return the outboxes with pending frames.

        Empty after an idle time: the thread must end, and is deregistered.
        """
        with self._lock:
            while True:
                ready = [outbox for outbox in self._outboxes if outbox.has_pending()]
                if ready:
                    self._woken = False
                    return ready
                idle_since = time.monotonic()
                while not self._woken:
                    self._changed.wait(_IDLE_SECONDS)
                    if not self._outboxes and not self._woken and time.monotonic() - idle_since >= _IDLE_SECONDS:
                        self._thread = None
                        return []
                self._woken = False

    def _send_round(self, transport: Transport, outboxes: Sequence[Outbox]) -> None:
        """Send the first frames of every outbox, up to the bound of a round."""
        facts: list[Delivery] = []
        metrics: list[Delivery] = []
        size = 0
        for outbox in outboxes:
            try:
                frames = outbox.next(max(1, _ROUND_BYTES - size))
            except OSError as error:
                self._mark_away([outbox], f"the spool can't be read: {error}")
                self._pause(_BLOCKED_SPOOL_PAUSE_SECONDS)
                continue
            for pending in frames:
                item = pending.frame.payload
                if pending.frame.kind is FrameKind.CREATION:
                    completed = self._complete(transport, outbox, item)
                    if completed is None:
                        break
                    item = completed
                (metrics if pending.frame.kind is FrameKind.METRICS else facts).append((outbox, pending, item))
                size += len(item)
            if size >= _ROUND_BYTES:
                break
        # Outboxes without a turn in this round come first in the next one.
        with self._lock:
            self._outboxes = [o for o in self._outboxes if o not in outboxes] + [
                o for o in self._outboxes if o in outboxes
            ]
        for deliveries, outcome in ((facts, True), (metrics, False)):
            for request in _requests(deliveries):
                if not self._deliver(transport, request, outcome=outcome):
                    return

    def _complete(self, transport: Transport, outbox: Outbox, payload: bytes) -> bytes | None:
        """Complete the record that creates the run; None if that is impossible now, or the outbox is blocked."""
        try:
            creation = Creation.read(payload)
            name = outbox.other_experiment or creation.experiment
            outbox.experiment = transport.find_experiment(name, _FIND_EXPERIMENT_TIMEOUT_SECONDS)
            return encode_item(creation.record(outbox.experiment))
        except NotConnected as error:
            self._mark_away([outbox], str(error))
            self._pause(_BLOCKED_SPOOL_PAUSE_SECONDS)
            return None
        except ServerRefused as error:
            outbox.block(str(error))
            _log.error("runfold: run %s can't be created, and its data stays in the spool: %s", outbox.name, error)
            return None
        except (ValueError, TypeError, SchemaError) as error:
            # Written by another release, or by hand. That must not keep other runs from being sent.
            outbox.block(f"its creation can't be read: {type(error).__name__}: {error}")
            return None

    def _deliver(self, transport: Transport, deliveries: Sequence[Delivery], *, outcome: bool) -> bool:
        """Send records until each is appended or rejected.

        False if sending stopped: the outboxes are closed or blocked.
        """
        outboxes = list(dict.fromkeys(outbox for outbox, _, _ in deliveries))
        backoff = _Backoff()
        while any(outbox.has_pending() for outbox in outboxes):
            try:
                results = transport.append([item for _, _, item in deliveries], outcome=outcome)
            except TryAgain as error:
                self._mark_away(outboxes, str(error))
                self._pause(backoff.next_pause(error.after), requested=error.after is not None)
                continue
            except Misconfigured as error:
                # Somebody may correct the address or the rights. That is no reason to give up data.
                self._mark_away(outboxes, str(error))
                self._pause(backoff.next_pause())
                continue
            except (Rejected, TooLargeForProxy) as error:
                if len(deliveries) > 1:
                    # One bad record fails the whole request: find it by bisection.
                    half = len(deliveries) // 2
                    parts = (deliveries[:half], deliveries[half:])
                    return all(self._deliver(transport, part, outcome=outcome) for part in parts)
                ((outbox, _, _),) = deliveries
                if isinstance(error, TooLargeForProxy):
                    # Somebody may raise the proxy's limit. The other runs must not wait for that.
                    self._block(outbox, error)
                    return False
                self._record_rejection(outbox, f"the server rejected events: {error}")
            else:
                self._record_results(deliveries, results)
            self._mark_back()
            for outbox in outboxes:
                outbox.mark_delivered([pending for owner, pending, _ in deliveries if owner is outbox])
            return True
        return False

    def _record_results(self, deliveries: Sequence[Delivery], results: Sequence[RecordResult]) -> None:
        for (outbox, _, item), result in zip(deliveries, results, strict=True):
            if result.is_rejected:
                outcome = result.outcome.replace("_", " ")
                self._record_rejection(outbox, f"{_type_of(item)} was {outcome}: {result.message or result.code}")

    def _pause(self, seconds: float, *, requested: bool = False) -> None:
        """Wait. A caller in a hurry ends the pause early, unless the server requested it."""
        until = time.monotonic() + seconds
        with self._lock:
            self._hurry = False
            while (left := until - time.monotonic()) > 0 and self._outboxes:
                if self._hurry and not requested:
                    break
                self._changed.wait(left)
            self._hurry = False

    def _mark_away(self, outboxes: Sequence[Outbox], why: str) -> None:
        for outbox in outboxes:
            outbox.record_failure(why)
        if not self.away:
            self.away = True
            _log.warning("runfold: %s. Events are kept on disk; retrying", why)

    def _mark_back(self) -> None:
        if self.away:
            self.away = False
            _log.warning("runfold: the server accepts events again")

    def _block(self, outbox: Outbox, error: TooLargeForProxy) -> None:
        outbox.block(str(error))
        _log.error(
            "runfold: run %s: a proxy rejects a record as too large. It and all later events stay in the spool: %s",
            outbox.name,
            error,
        )

    def _record_rejection(self, outbox: Outbox, problem: str) -> None:
        if outbox.record_rejection(problem):
            _log.warning("runfold: run %s: %s", outbox.name, problem)


class _Backoff:
    """Exponential backoff with jitter, because many ranks lose their server at the same moment."""

    def __init__(self) -> None:
        self._longest = _MIN_RETRY_SECONDS

    def next_pause(self, requested: float | None = None) -> float:
        """Return the next pause in seconds, which is at least the one that the server requested."""
        longest = self._longest
        self._longest = min(2 * longest, _MAX_RETRY_SECONDS)
        if requested is not None:
            return random.uniform(requested, 1.2 * requested)
        return random.uniform(longest / 2, longest)


def _requests(deliveries: Sequence[Delivery]) -> Iterator[Sequence[Delivery]]:
    """Split deliveries into requests within the limits. A row with many keys may exceed one by itself."""
    part: list[Delivery] = []
    size = 0
    for delivery in deliveries:
        if part and (size + len(delivery[2]) > MAX_BATCH_BYTES // 2 or len(part) >= MAX_BATCH_RECORDS):
            yield part
            part, size = [], 0
        part.append(delivery)
        size += len(delivery[2])
    if part:
        yield part


def _type_of(item: bytes) -> str:
    kind = next((value for name, value in decode_item(item).headers if name == "ce_type"), b"an event")
    return kind.decode().rpartition(".")[2]


class Senders:
    """The senders of this process, one per tracking URI."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_uri: dict[str, Sender] = {}

    def for_uri(self, uri: str) -> Sender:
        """Return the sender for a tracking URI. SdkError if the URI is invalid."""
        open_transport = transport_opener(uri)
        with self._lock:
            return self._by_uri.setdefault(uri, Sender(open_transport))

    def reset_after_fork(self) -> None:
        """Start over in a forked child, which does not inherit the threads."""
        self.__init__()  # type: ignore[misc]


senders = Senders()
