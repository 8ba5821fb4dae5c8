"""Errors to answer while Kafka or Postgres is down."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from runfold_log.errors import LogMismatch, LogNotCreated, LogUnavailable
from runfold_projections.core.errors import BadFilter, BadQuery, ProjectionError
from runfold_schemas.errors import BadEvent
from runfold_server.core.errors import InvalidParameter, Unavailable

STALE = (asyncpg.InvalidCachedStatementError, asyncpg.UndefinedTableError)
"""Errors of a statement whose tables were switched to another generation meanwhile. It may be retried at once."""

_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InternalClientError,
    asyncpg.InvalidCachedStatementError,
)


@contextmanager
def postgres_outages() -> Iterator[None]:
    """Turn errors of a Postgres that is down, slow or not migrated into Unavailable, and bad queries into 400."""
    try:
        yield
    except TimeoutError:
        raise Unavailable("Postgres did not answer in time") from None
    except asyncpg.UndefinedTableError as error:
        raise Unavailable(f"the read models are not there yet ({error}); run `runfold migrate`", 2.0) from error
    except asyncpg.DataError as error:
        # The value passed our checks, but no Postgres type can hold it.
        raise InvalidParameter(f"A value of the request can't be used in a query: {error}") from error
    except _AWAY as error:
        raise Unavailable(f"Postgres is down: {type(error).__name__}: {error}") from error
    except (BadFilter, BadQuery) as error:
        raise InvalidParameter(str(error)) from error
    except ProjectionError as error:
        raise Unavailable(str(error), 2.0) from error


@contextmanager
def kafka_outages() -> Iterator[None]:
    """Turn errors of the log's writer and reader into Unavailable, and events beyond the contract's bounds into 400."""
    try:
        yield
    except BadEvent as error:
        raise InvalidParameter(str(error)) from error
    except LogUnavailable as error:
        raise Unavailable(str(error), error.retry_after) from error
    except (LogNotCreated, LogMismatch) as error:
        raise Unavailable(str(error), 2.0) from error
    except TimeoutError:
        raise Unavailable("Kafka did not answer in time") from None
    except OSError as error:
        raise Unavailable(f"Kafka is down: {type(error).__name__}: {error}") from error
