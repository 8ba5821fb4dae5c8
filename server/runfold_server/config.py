"""Settings of the server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How one server runs. Times are in seconds, sizes in bytes.

    `read_wait` bounds how long a strong read or a write's outcome waits for the folds, `kafka_timeout` an append,
    `ends_timeout` a look-up of the log's ends, `postgres_timeout` a statement and `acquire_timeout` the wait for a connection.

    `search_bytes` bounds what a process remembers between searches: columns, and runs as JSON.

    `artifact_root` is a URI such as `file:///shared` or `s3://bucket`: while this server has no artifact store of its own, runs of
    experiments that name no location keep their artifacts below it, and clients write there themselves.
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
    search_bytes: int = 512 * 1024 * 1024
    artifact_root: str = ""
