"""Finds the services of this installation: named by settings, or those of a stack on the data directory."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runfold_log.cluster import KafkaCluster
from runfold_log.errors import LogUnavailable
from runfold_stack.embedded import StackFile, read_running
from runfold_stack.embedded.datadir import DataDir
from runfold_stack.embedded.kafka_login import login_in
from runfold_stack.embedded.s3 import keys_in
from runfold_stack.errors import NotRunning, ServiceAway
from runfold_storage.config import S3Config

from .settings import Settings

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


@dataclass(frozen=True, slots=True)
class Services:
    """Addresses to work with. `server` and `worker` are URLs, as a running stack published them."""

    kafka: KafkaCluster
    postgres: str
    server: str | None = None
    worker: str | None = None
    s3: S3Config | None = None


def find_services(settings: Settings) -> Services:
    """Kafka and Postgres of this installation; NotRunning if one is neither named nor running."""
    running = read_running(settings.data_dir)
    kafka = find_kafka(settings, running)
    postgres = settings.postgres or (running.postgres if running else None)
    missing = [name for name, value in (("RUNFOLD_KAFKA", kafka), ("RUNFOLD_POSTGRES", postgres)) if value is None]
    if kafka is None or postgres is None:
        verb = "is" if len(missing) == 1 else "are"
        raise NotRunning(
            f"no stack runs on the data directory {settings.data_dir.absolute()}, and {' and '.join(missing)} "
            f"{verb} not set. "
            "Start one with `runfold up`, name the directory of one that runs with --data-dir, or set what is missing."
        )
    ours = running if running and running.namespace == settings.namespace else None
    s3 = find_s3(settings, running)
    return Services(kafka, postgres, ours.server if ours else None, ours.worker if ours else None, s3)


def find_kafka(settings: Settings, running: StackFile | None) -> KafkaCluster | None:
    """The Kafka that is named, else that of the running stack, with the password that was generated for it."""
    if settings.kafka is not None:
        return KafkaCluster(settings.kafka, settings.kafka_access())
    if running is None or running.kafka is None:
        return None
    login = login_in(DataDir(settings.data_dir.expanduser().absolute()).kafka)
    return KafkaCluster(running.kafka) if login is None else login.cluster(running.kafka)


def find_s3(settings: Settings, running: StackFile | None) -> S3Config | None:
    """The S3 store of this installation; None where none is named or running: then the server keeps no artifacts."""
    if settings.s3_endpoint is not None:
        return S3Config(
            settings.s3_endpoint, settings.s3_bucket, settings.s3_region, settings.s3_access_key, settings.s3_secret_key
        )
    if running is None or running.s3 is None:
        return None
    keys = keys_in(DataDir(settings.data_dir.expanduser().absolute()).s3)
    if keys is None:
        return None
    return S3Config(running.s3, settings.s3_bucket, settings.s3_region, keys.access_key, keys.secret_key)


@contextmanager
def kafka_named(kafka: KafkaCluster) -> Iterator[None]:
    """Say of an error that Kafka is not as the setting says, instead of which call of the client failed."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of our output is gone; the clients have errors of their own for a lost connection
    except (OSError, TimeoutError, LogUnavailable) as error:
        if of_a_file(error):
            raise
        cause = error.__cause__ if isinstance(error, LogUnavailable) and error.__cause__ else error
        raise ServiceAway(f"Kafka at {kafka} (RUNFOLD_KAFKA): {reason(cause)}{kafka.hint()}") from error


@contextmanager
def postgres_named(dsn: str) -> Iterator[None]:
    """The same for Postgres."""
    # Imported on first use: the command starts faster.
    import asyncpg

    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        if of_a_file(error):
            raise
        raise ServiceAway(f"Postgres at {without_password(dsn)} (RUNFOLD_POSTGRES): {reason(error)}") from error


def of_a_file(error: BaseException) -> bool:
    """Whether the trouble is with a file or its disk, and with no service."""
    return isinstance(error, OSError) and (error.filename is not None or error.errno in _DISK)


def reason(error: BaseException) -> str:
    """An error in words; its class where it has none."""
    text = str(error).removeprefix(f"{type(error).__name__}: ")
    return text or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def without_password(text: str) -> str:
    """A DSN that may be shown."""
    text = re.sub(r"(://[^:/?#@]*):[^@/?#]*@", r"\1:…@", text)
    return re.sub(r"([?&]password=)[^&]*", r"\1…", text)
