"""The background thread of a run: takes what is due, encodes it once, sends it until the server has it."""

import logging
import random
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from runfold_schemas.batch import MAX_BATCH_BYTES, Outgoing

from .buffer import Buffer, Rows
from .encoding import RunEncoder
from .http import Never, Result, TryAgain

_log = logging.getLogger("runfold")

MOST_BYTES_AT_ONCE = 1024 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
_MOST_PROBLEMS = 20


class Transport(Protocol):
    """Where records go. The same records sent again must arrive as the same bytes."""

    def append(self, records: Sequence[Outgoing], *, outcome: bool) -> list[Result]:
        """See HttpTransport.append."""


class Shipper:
    """Sends a buffer's entries in their order, one request at a time.

    Encoded once, so that what is sent again carries the same event ids and sequences: the fold drops what it has.
    """

    def __init__(self, buffer: Buffer, encoder: RunEncoder, transport: Transport, name: str) -> None:
        self._buffer, self._encoder, self._transport = buffer, encoder, transport
        self._stopped = threading.Event()
        self._away = False
        self.last_error = ""
        """Why the latest failed attempt failed."""
        self.problems: list[str] = []
        """What the server refused for good: the first few different ones."""
        self.refusals = 0
        """How many events it refused."""
        # Daemon: a hanging request must not keep the interpreter alive; runs are finished by atexit.
        self._thread = threading.Thread(target=self._work, name=f"runfold {name}", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """End the thread, whatever is left; wait for it at most `timeout` seconds."""
        self._stopped.set()
        self._buffer.abandon()
        self._thread.join(timeout)

    def _work(self) -> None:
        try:
            while entries := self._buffer.take(MOST_BYTES_AT_ONCE):
                rows = [entry.frame() for entry in entries if isinstance(entry, Rows)]
                facts = [entry.record for entry in entries if not isinstance(entry, Rows)]
                records = self._encoder.metrics(rows) if rows else facts
                if not all(self._deliver(part, outcome=not rows) for part in _requests(records)):
                    return
                self._buffer.acknowledge()
        except Exception as error:
            if self._stopped.is_set():
                # The connection was closed under a request that nobody waits for any more.
                return
            self.last_error = f"{type(error).__name__}: {error}"
            _log.exception("runfold: sending failed for a reason that should not exist; nothing more will be sent")
        finally:
            self._buffer.abandon()

    def _deliver(self, records: Sequence[Outgoing], *, outcome: bool) -> bool:
        """Send until the server has taken or refused the records. False: stopped before that."""
        longest = FIRST_PAUSE
        while not self._stopped.is_set():
            try:
                results = self._transport.append(records, outcome=outcome)
            except TryAgain as error:
                self._note_away(error)
                # Jitter on both: many ranks lose their server at the same moment.
                least = longest / 2 if error.after is None else error.after
                self._stopped.wait(random.uniform(least, 1.2 * least if error.after is not None else longest))
                longest = min(2 * longest, LONGEST_PAUSE)
                continue
            except Never as error:
                if len(records) > 1:
                    # A server refuses a batch for one bad record: the others must not share its lot.
                    return all(self._deliver([record], outcome=outcome) for record in records)
                self._refused(f"events were not taken: {error}")
                return True
            self._note_back()
            for record, result in zip(records, results, strict=True):
                if result.refused:
                    self._refused(
                        f"{_type_of(record)} was {result.outcome.replace('_', ' ')}: {result.message or result.code}"
                    )
            return True
        return False

    def _note_away(self, error: TryAgain) -> None:
        self.last_error = str(error)
        if not self._away:
            self._away = True
            _log.warning("runfold: %s; points are kept in memory, trying again", error)

    def _note_back(self) -> None:
        if self._away:
            self._away = False
            _log.warning("runfold: the server takes events again")

    def _refused(self, problem: str) -> None:
        self.refusals += 1
        # Once each: a server that takes nothing would else be told of twice a second.
        if len(self.problems) < _MOST_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)
            _log.warning("runfold: %s", problem)


def _requests(records: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    """Cut into parts that a request may hold: one row can be larger, by many keys."""
    part: list[Outgoing] = []
    size = 0
    for record in records:
        if part and size + len(record.value) > MAX_BATCH_BYTES // 2:
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record.value)
    if part:
        yield part


def _type_of(record: Outgoing) -> str:
    kind = next((value for name, value in record.headers if name == "ce_type"), b"an event")
    return kind.decode().rpartition(".")[2]
