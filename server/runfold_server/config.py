"""Settings of the server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How one server runs. Times are in seconds, sizes in bytes.

    `read_wait` bounds how long a strong read or a write's outcome waits for the folds, `kafka_timeout` an append,
    `ends_timeout` a look-up of the log's ends, `postgres_timeout` a statement and `acquire_timeout` the wait for a connection.

    `default_artifact_root` is MLflow's setting of that name: new experiments that name no artifact location get one below this
    URI, which clients then write to by themselves. Empty: the fold's `mlflow-artifacts:/<experiment id>`, through the server.
    """

    kafka: str
    dsn: str
    namespace: str = "runfold"
    host: str = "127.0.0.1"
    port: int = 5000
    workers: int = 1
    pool_size: int = 8
    max_body_bytes: int = 8 * 1024 * 1024
    read_wait: float = 10.0
    kafka_timeout: float = 10.0
    ends_timeout: float = 5.0
    postgres_timeout: float = 30.0
    acquire_timeout: float = 5.0
    graceful_shutdown: float = 10.0
    default_artifact_root: str = ""
