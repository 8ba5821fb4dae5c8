"""Where the services of this installation are: named by settings, or those of a stack that runs on the data directory."""

from dataclasses import dataclass

from .embedded import read_running
from .errors import NotRunning
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """Addresses to work with. `server` and `worker` are URLs, where a running stack told them."""

    kafka: str
    postgres: str
    server: str | None = None
    worker: str | None = None


def find_services(settings: Settings) -> Services:
    """Kafka and Postgres of this installation; NotRunning if one is neither named nor running."""
    running = read_running(settings.data_dir)
    kafka = settings.kafka or (running.kafka if running else None)
    postgres = settings.postgres or (running.postgres if running else None)
    missing = [name for name, value in (("RUNFOLD_KAFKA", kafka), ("RUNFOLD_POSTGRES", postgres)) if value is None]
    if kafka is None or postgres is None:
        raise NotRunning(
            f"{' and '.join(missing)} not set, and no stack runs on {settings.data_dir.absolute()}: "
            "start one with `runfold up`, or set what is missing"
        )
    ours = running if running and running.namespace == settings.namespace else None
    return Services(kafka, postgres, ours.server if ours else None, ours.worker if ours else None)
