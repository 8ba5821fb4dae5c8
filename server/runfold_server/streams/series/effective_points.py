"""Points of the log that are effective where they appear: late points of an attempt that was cut off are not."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from runfold_projections.metrics.branches import RunBranches
from runfold_projections.metrics.fold import fold
from runfold_projections.metrics.run_metrics import rows_up_to
from runfold_schemas.codec.record import Record
from runfold_schemas.events.metrics import MetricsLogged


def effective(records: Iterable[Record], branches: Mapping[str, RunBranches]) -> Iterator[Record]:
    """Yield the records without the rows that earlier cuts took, as the fold of metrics decides it.

    `branches`, by run id, are those of the runs that have cuts, as they were before the first record; they are folded
    on in place.
    """
    for record in records:
        run = branches.get(record.entity)
        yield record if run is None else _without_cut_rows(record, run)


def _without_cut_rows(record: Record, run: RunBranches) -> Record:
    event, step = record.event, fold(run, record)
    if not isinstance(event, MetricsLogged):
        return record
    limit = run.view().limit(step.branch, step.rank)
    if limit is None:
        return record
    return replace(record, event=MetricsLogged(event.run_id, tuple(rows_up_to(frame, limit) for frame in event.frames)))
