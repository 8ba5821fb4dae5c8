"""What carries records away, behind one small interface, and what it may answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment that is there to take runs."""

    id: str
    artifact_location: str


@dataclass(frozen=True, slots=True)
class Parent:
    """A run to be forked: its experiment's name, and its newest branch."""

    experiment: str
    branch: int


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run that exists: its experiment's name, and its status."""

    experiment: str
    status: str


class TryAgain(Exception):
    """Not acknowledged, may have taken effect; the same bytes may be sent again, after `after` seconds if the server said so.

    `answered` tells a server that can't now from one that is not there.
    """

    def __init__(self, message: str, after: float | None = None, *, answered: bool = False) -> None:
        super().__init__(message)
        self.after, self.answered = after, answered


class Never(Exception):
    """This request will not be taken, however often it is sent; the message is the server's.

    `about_records`: the records are at fault. Else it is the request's way: a wrong address, a missing right.
    `on_the_way`: not the server says so, but a proxy before it, for which the request is too large.
    `may_pass`: it is a matter of rights, or no Runfold server said it: nothing is wrong with what was asked.
    """

    def __init__(
        self,
        message: str,
        code: str = "",
        *,
        about_records: bool = True,
        on_the_way: bool = False,
        may_pass: bool = False,
    ) -> None:
        super().__init__(message)
        self.code, self.about_records, self.on_the_way, self.may_pass = code, about_records, on_the_way, may_pass


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one record: `appended`, `accepted`, `rejected` or `set_aside`."""

    outcome: str
    code: str = ""
    message: str = ""

    @property
    def refused(self) -> bool:
        return self.outcome in ("rejected", "set_aside")


class Transport(Protocol):
    """Where records go. What is sent again must arrive as the same bytes."""

    @property
    def uri(self) -> str:
        """Where it sends, as messages name it."""

    def append(self, items: Sequence[bytes], *, outcome: bool) -> list[Result]:
        """Append records, as runfold_schemas.codec.batch.encode_item made them, in order; wait for the log's acknowledgement, or for the
        folds' decisions where this transport can know them. Raises TryAgain or Never.
        """

    def find_experiment(self, name: str, timeout: float) -> Experiment:
        """The experiment of a name, created if there is none. Raises NotConnected or ServerRefused."""

    def find_run(self, run_id: str, timeout: float) -> KnownRun | None:
        """A run, if it exists. Raises NotConnected or ServerRefused."""

    def find_parent(self, run_id: str, timeout: float) -> Parent:
        """What a fork needs to know of a run. Raises NotConnected or ServerRefused."""

    def close(self) -> None:
        """Let go of connections; a request under way fails with TryAgain."""
