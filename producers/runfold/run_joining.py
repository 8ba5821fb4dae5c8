"""What a process says when it joins a run that others began: its creation changes nothing of a run that is there."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from runfold.launcher.process_context import Place
from runfold.pipeline.encoder import checked
from runfold.pipeline.outbox import Outbox
from runfold.transports.base import ExistingRun
from runfold_schemas.events.base import Fact
from runfold_schemas.events.runs import RunUpdated, TagsSet

from .errors import SdkError, ServerRefused

NAMELESS = "Default"
"""The experiment of a run that names none."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What a server said of the run that is joined."""

    asked: bool = False
    """Whether a server answered."""
    experiment: str = ""
    """Name of its experiment; empty: there is no such run yet, or nobody answered."""
    status: str = ""

    @classmethod
    def of(cls, run_id: str, known: ExistingRun | None, named: str | None) -> Self:
        """ServerRefused: it is of another experiment than the one that was named."""
        if known is None:
            return cls(asked=True)
        if named not in (None, known.experiment):
            raise ServerRefused(
                f"run {run_id} is of experiment {known.experiment!r}, not {named!r}: "
                f"join it with experiment={known.experiment!r}, or name none"
            )
        return cls(True, known.experiment, known.status)


def say_again(before: Sequence[Outbox], add: Callable[[Fact], None], facts: Sequence[Fact]) -> None:
    """In the background: say the facts once more when all that earlier attempts left has arrived, since their end may be in it."""

    def wait() -> None:
        for outbox in before:
            outbox.wait(None, threading.TIMEOUT_MAX)
        try:
            for fact in facts:
                add(fact)
        except SdkError:
            pass  # this attempt has ended, too, and has said so

    if before and facts:
        threading.Thread(target=wait, name="runfold goes on", daemon=True).start()


def facts_of_join(
    place: Place, joined: Joined, name: str | None, tags: dict[str, str], *, again: bool
) -> Iterator[Fact]:
    """The run runs again, and has the name and tags that were given. `again`: an earlier attempt's events are on their way.

    One process of a job says it for all, since all give the same; none that is beside the job says that the run runs.
    """
    if place.run_id is None or place.rank not in (None, 0):
        return
    is_new = joined.asked and not joined.experiment and not again
    runs = is_new or (joined.status == "RUNNING" and not again) or place.beside
    if not runs or (name and not (is_new and place.rank == 0)):
        status = None if runs else "RUNNING"
        yield checked(RunUpdated, run_id=place.run_id, status=status, name=name or None)
    if tags and not (is_new and place.rank == 0):
        yield checked(TagsSet, run_id=place.run_id, tags=tags)
