"""Writes to the registry: what they need of the log."""

from .api import Api
from .errors import NotImplementedYet
from .outages import kafka_outages

LEVEL = 4
"""Feature level from which the log has a registry."""


async def needs_registry(api: Api) -> None:
    """NotImplementedYet while the log's feature level has no registry: older workers would pause before its events."""
    with kafka_outages():
        level = (await api.log.connect()).level
    if level < LEVEL:
        raise NotImplementedYet(
            f"The log is at feature level {level} and the registry needs {LEVEL}: run `runfold upgrade`, then restart the servers."
        )
