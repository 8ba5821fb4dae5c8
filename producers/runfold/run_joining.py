"""Events of a process that joins an existing run, whose creation event then has no effect."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from runfold.launcher.process_context import ProcessContext
from runfold.pipeline.encoder import checked
from runfold.pipeline.outbox import Outbox
from runfold.transports.base import ExistingRun
from runfold_schemas.events.base import Fact
from runfold_schemas.events.runs import RunUpdated, TagsSet

from .errors import SdkError, ServerRefused

DEFAULT_EXPERIMENT = "Default"
"""Name of the default experiment."""


@dataclass(frozen=True, slots=True)
class JoinedRun:
    """The server's state of the run to join."""

    is_known: bool = False
    """Whether a server answered."""
    experiment: str = ""
    """Name of the run's experiment. Empty if the run does not exist yet, or no server answered."""
    status: str = ""

    @classmethod
    def from_answer(cls, run_id: str, found: ExistingRun | None, experiment: str | None) -> Self:
        """Build from a server's answer. ServerRefused if the run belongs to another experiment than the given one."""
        if found is None:
            return cls(is_known=True)
        if experiment not in (None, found.experiment):
            raise ServerRefused(
                f"run {run_id} belongs to experiment {found.experiment!r}, not {experiment!r}: "
                f"join it with experiment={found.experiment!r}, or without an experiment"
            )
        return cls(True, found.experiment, found.status)


def repeat_after(earlier: Sequence[Outbox], add: Callable[[Fact], None], facts: Sequence[Fact]) -> None:
    """Add the facts again, in the background, once the events of earlier attempts are delivered.

    The run's end may be among those events, and would otherwise win.
    """

    def wait() -> None:
        for outbox in earlier:
            outbox.wait(None, threading.TIMEOUT_MAX)
        try:
            for fact in facts:
                add(fact)
        except SdkError:
            pass  # this attempt has ended as well

    if earlier and facts:
        threading.Thread(target=wait, name="runfold rejoin", daemon=True).start()


def join_facts(
    context: ProcessContext, joined: JoinedRun, name: str | None, tags: dict[str, str], *, again: bool
) -> Iterator[Fact]:
    """Yield facts that set a joined run to RUNNING and give it the new name and tags.

    `again` means that events of an earlier attempt are still being sent. Only rank 0 yields facts, because all
    processes of a job pass the same values. A process beside the job never changes the status.
    """
    if context.run_id is None or context.rank not in (None, 0):
        return
    is_new = joined.is_known and not joined.experiment and not again
    runs = is_new or (joined.status == "RUNNING" and not again) or context.beside
    if not runs or (name and not (is_new and context.rank == 0)):
        status = None if runs else "RUNNING"
        yield checked(RunUpdated, run_id=context.run_id, status=status, name=name or None)
    if tags and not (is_new and context.rank == 0):
        yield checked(TagsSet, run_id=context.run_id, tags=tags)
