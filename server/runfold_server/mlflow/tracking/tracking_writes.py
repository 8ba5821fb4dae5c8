"""Writes to experiments and runs that the fold may reject, with the rejection in MLflow's words."""

from runfold_schemas.events.all_events import Event
from runfold_server.mlflow.rejection_errors import as_mlflow_error
from runfold_server.writes.writes import RejectedWrite, WriteOrigin, Writes


async def append_accepted(writes: Writes, event: Event, origin: WriteOrigin, *, single_param: bool = False) -> None:
    """Append an event and return once the fold has accepted it.

    Raises MLflow's error if the fold rejects it. `single_param` picks the message of log-parameter, which differs from
    that of log-batch.
    """
    try:
        await writes.append_and_wait(event, origin)
    except RejectedWrite as refused:
        raise as_mlflow_error(refused, single_param=single_param) from None
