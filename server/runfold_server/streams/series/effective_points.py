"""What of the points of the log is effective where they come: late points of an attempt that was cut off are not."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from runfold_projections.metrics.branches import NO_RANK, Lineage
from runfold_projections.metrics.run_metrics import until
from runfold_schemas.codec.record import Record
from runfold_schemas.events.metrics import AttemptStarted, MetricsLogged, RunRewound


def effective(records: Iterable[Record], lineages: Mapping[str, Lineage]) -> Iterator[Record]:
    """These records without the rows that cuts before them have taken, as the fold of metrics decides it.

    `lineages` are those of runs that have cuts, as they stood before the first record; they are told what the records tell.
    """
    for record in records:
        lineage = lineages.get(record.entity)
        yield record if lineage is None else _shown(record, lineage)


def _shown(record: Record, lineage: Lineage) -> Record:
    event, writer = record.event, record.envelope.writer
    rank = NO_RANK if writer.rank is None else writer.rank
    lineage.appear(writer.attempt)
    match event:
        case MetricsLogged():
            branch = lineage.branch(writer.attempt, rank, writer.id, record.envelope.sequence)
            limit = lineage.view().limit(branch, rank)
            if limit is not None:
                frames = tuple(until(frame, limit) for frame in event.frames)
                return replace(record, event=MetricsLogged(event.run_id, frames))
        case AttemptStarted() if event.start_step is not None:
            lineage.start(writer.attempt, None if event.all_ranks else rank, event.start_step)
        case RunRewound():
            scope = None if event.all_ranks else rank
            lineage.rewind(writer.attempt, scope, event.step, writer.id, record.envelope.sequence)
    return record
