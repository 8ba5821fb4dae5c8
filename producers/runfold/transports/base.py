"""The interface that delivers records, and its errors.

TransportError
├── TryAgain          no acknowledgement; send the same bytes again
├── Rejected          the server processed the request and said no
├── TooLargeForProxy  a proxy, not the server, turned the request away because of its size
└── Misconfigured     a wrong address or a missing right; the records themselves may be fine
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Experiment:
    """An active experiment."""

    id: str
    artifact_location: str


@dataclass(frozen=True, slots=True)
class ParentRun:
    """A run to fork: the name of its experiment, and its newest branch."""

    experiment: str
    branch: int


@dataclass(frozen=True, slots=True)
class ExistingRun:
    """A run to join: the name of its experiment, and its status."""

    experiment: str
    status: str


class TransportError(Exception):
    """Root of the errors of a transport. The message is for the user and names the server."""


class TryAgain(TransportError):
    """The request was not acknowledged, but may have taken effect. Repeating the same bytes is safe.

    `after` is the pause in seconds that the server requested. `answered` distinguishes a server that is temporarily
    unable to answer from one that can't be reached.
    """

    def __init__(self, message: str, after: float | None = None, *, answered: bool = False) -> None:
        super().__init__(message)
        self.after, self.answered = after, answered


class Rejected(TransportError):
    """The server rejected the request, and would reject it again. `append` raises it only because of the records.

    `code` is the server's error code, and `status` the HTTP status (0 without HTTP).
    """

    def __init__(self, message: str, code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class TooLargeForProxy(TransportError):
    """A proxy in front of the server has a lower limit for the size of a request."""


class Misconfigured(TransportError):
    """The request can't succeed until somebody corrects the address, the rights, or the log."""


@dataclass(frozen=True, slots=True)
class RecordResult:
    """Result for one record: `appended`, `accepted`, `rejected` or `set_aside` (in the dead letter table)."""

    outcome: str
    code: str = ""
    message: str = ""

    @property
    def is_rejected(self) -> bool:
        return self.outcome in ("rejected", "set_aside")


class Transport(Protocol):
    """A destination of records. Repeated records must be sent as the same bytes."""

    @property
    def uri(self) -> str:
        """The destination, as messages name it."""

    def append(self, items: Sequence[bytes], *, outcome: bool) -> list[RecordResult]:
        """Append records, encoded by `runfold_schemas.codec.batch.encode_item`, in order.

        Waits for the log's acknowledgement; with `outcome`, for the decisions of the folds where this transport can
        know them. Raises TransportError.
        """

    def find_experiment(self, name: str, timeout: float) -> Experiment:
        """Find an experiment by name, or create it. Raises NotConnected or ServerRefused."""

    def find_run(self, run_id: str, timeout: float) -> ExistingRun | None:
        """Find a run to join; None if it does not exist. Raises NotConnected or ServerRefused."""

    def find_parent(self, run_id: str, timeout: float) -> ParentRun:
        """Find a run to fork. Raises NotConnected or ServerRefused."""

    def close(self) -> None:
        """Close connections. A request in progress fails with TryAgain."""
