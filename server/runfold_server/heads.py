"""Is this run there and active? Asked before every write to it, answered without waiting for any fold if possible."""

from collections import OrderedDict
from dataclasses import dataclass

from runfold_projections.queries.runs import RunHead, run_head
from runfold_schemas.topics import Topic

from .database import Database
from .errors import Unavailable
from .mlflow.refusals import no_run, run_not_active
from .reads import Reader, of_run

ACTIVE = "active"
_REMEMBERED = 20_000


@dataclass(slots=True)
class _Known:
    head: RunHead
    folded: bool


class RunHeads:
    """Looks up runs in committed rows, and strongly only on a miss.

    Deleting and restoring a run are acknowledged when they are folded, so committed rows show every acknowledged one. A run
    that this process created and no row shows yet is known to be active: had it been deleted, there would be a row.
    While Postgres is away, metric writes go on for runs that were seen before.
    """

    def __init__(self, database: Database, reader: Reader) -> None:
        self._database, self._reader = database, reader
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def created(self, head: RunHead) -> None:
        """A run whose creation was acknowledged, though not folded yet."""
        self._remember(head, folded=False)

    async def active(self, run_id: str, *, without_postgres: bool = False) -> RunHead:
        """The run; NotFound or InvalidParameter, in MLflow's words, if it is not there or deleted.

        `without_postgres`: while Postgres is away, trust what was seen before.
        """
        try:
            head = await self._find(run_id)
        except Unavailable:
            known = self._known.get(run_id)
            if known is None or not without_postgres:
                raise
            head = known.head
        if head is None:
            raise no_run(run_id)
        if head.lifecycle_stage != ACTIVE:
            raise run_not_active(run_id, head.lifecycle_stage)
        return head

    async def present(self, run_id: str) -> RunHead:
        """The run, active or deleted; NotFound in MLflow's words if there is none."""
        head = await self._find(run_id)
        if head is None:
            raise no_run(run_id)
        return head

    async def _find(self, run_id: str) -> RunHead | None:
        async with self._database.connection() as connection:
            head = await run_head(connection, run_id)
        if head is None:
            known = self._known.get(run_id)
            if known is not None and not known.folded:
                return known.head
            shown = await self._reader.strong(
                of_run(run_id, Topic.RUNS, Topic.EXPERIMENTS), lambda connection: run_head(connection, run_id)
            )
            head = shown.value
        if head is not None:
            self._remember(head, folded=True)
        return head

    def _remember(self, head: RunHead, *, folded: bool) -> None:
        self._known[head.run_id] = _Known(head, folded)
        self._known.move_to_end(head.run_id)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
