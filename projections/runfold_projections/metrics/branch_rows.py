"""Attempts, cuts and forks of runs as rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.record import Record
from runfold_schemas.events.metrics import AttemptStarted, RunForked

from .branches import Attempt, Cut
from .fold import Step
from .run_metrics import RunMetrics

Row = tuple[Any, ...]


async def load_branches(connection: Connection, runs: Mapping[str, RunMetrics], run_ids: Sequence[str]) -> None:
    """Load the attempts, cuts and forks of these runs from the tables into them."""
    attempts: dict[str, list[tuple[str, Attempt]]] = {}
    cuts: dict[str, list[Cut]] = {}
    for run_id, attempt, ordinal, branch, declared in await connection.fetch(
        """
        SELECT a.run_id, a.attempt, a.ordinal, a.branch, s.attempt IS NOT NULL AS declared
        FROM attempt a LEFT JOIN attempt_start s USING (run_id, attempt)
        WHERE a.run_id = ANY ($1::text[]) ORDER BY a.run_id, a.ordinal
        """,
        run_ids,
    ):
        attempts.setdefault(run_id, []).append((attempt, Attempt(ordinal, branch)))
        if declared:
            runs[run_id].branches.declared.add(attempt)
    for run_id, *cut in await connection.fetch(
        """
        SELECT run_id, number, attempt, rank, step, opens, writer, sequence FROM cut
        WHERE run_id = ANY ($1::text[]) ORDER BY run_id, number
        """,
        run_ids,
    ):
        cuts.setdefault(run_id, []).append(Cut(*cut))
    for row in await connection.fetch("SELECT run_id FROM fork WHERE run_id = ANY ($1::text[])", run_ids):
        runs[row["run_id"]].branches.is_fork = True
    for run_id, found in attempts.items():
        runs[run_id].branches.restore(found, cuts.get(run_id, ()))


@dataclass(slots=True)
class BranchRows:
    """New rows of a batch."""

    attempts: list[Row] = field(default_factory=list)
    starts: list[Row] = field(default_factory=list)
    cuts: list[Row] = field(default_factory=list)
    forks: list[Row] = field(default_factory=list)

    def add(self, record: Record, step: Step) -> None:
        """Add the rows of a folded event."""
        event, offset, name = record.event, record.position.offset, record.envelope.writer.attempt
        if step.appeared is not None:
            attempt = step.appeared
            self.attempts.append((record.entity, name, attempt.ordinal, offset, attempt.branch))
        if step.declared:
            assert isinstance(event, AttemptStarted), event
            started = (event.world_size, event.start_step, offset, record.timestamp_ms)
            self.starts.append((event.run_id, name, *started))
        if step.cut is not None:
            self.cuts.append((record.entity, *step.cut, offset, record.envelope.event_id))
        if step.forked:
            assert isinstance(event, RunForked), event
            parent = (event.parent_run_id, event.parent_branch, event.step)
            self.forks.append((event.run_id, *parent, offset, record.envelope.event_id))

    def changes(self) -> list[RowChange]:
        """Return the statements that write the rows."""
        pairs = (
            (_SAVE_ATTEMPTS, self.attempts),
            (_SAVE_STARTS, self.starts),
            (_SAVE_CUTS, self.cuts),
            (_SAVE_FORKS, self.forks),
        )
        return [RowChange(text, columns(rows)) for text, rows in pairs if rows]


_SAVE_ATTEMPTS = """
INSERT INTO attempt (run_id, attempt, ordinal, first_offset, branch)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::integer[]) WHERE EXISTS (SELECT
    FROM fence)
"""
_SAVE_STARTS = """
INSERT INTO attempt_start (run_id, attempt, world_size, start_step, log_offset, started_ms)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[])
WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_CUTS = """
INSERT INTO cut (run_id, number, attempt, rank, step, opens, writer, sequence, log_offset, event_id)
SELECT * FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::bigint[], $6::boolean[], $7::text[],
    $8::bigint[],
                     $9::bigint[], $10::uuid[])
WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_FORKS = """
INSERT INTO fork (run_id, parent_run_id, parent_branch, step, log_offset, event_id)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::uuid[])
WHERE EXISTS (SELECT FROM fence)
"""
