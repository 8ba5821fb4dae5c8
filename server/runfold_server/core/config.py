"""Settings of the server."""

from dataclasses import dataclass

from runfold_log.cluster import KafkaCluster
from runfold_schemas.codec.wire import MAX_REQUEST_BODY_BYTES
from runfold_storage.config import S3Config


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How one server runs. Times are in seconds, sizes in bytes.

    `read_wait` bounds how long a strong read or a write's outcome waits for the folds, `kafka_timeout` an append,
    `ends_timeout` a look-up of the log's end offsets, `postgres_timeout` a statement and `acquire_timeout` the wait for
    a connection.

    `search_bytes` bounds the columns and encoded runs that a process keeps between searches.

    `allowed_hosts` and `allowed_origins` are those of `security.callers.Callers`. `trusted_proxies` are addresses and
    networks of proxies that may say whom they forward for.

    `s3` is the artifact store; without it, routes that need it answer 501. `s3_timeout` bounds one request to it, which
    moves at most one part of a file. Each file is read once per `artifact_check_period` and compared with the log; with
    0, never.
    """

    kafka: KafkaCluster
    dsn: str
    namespace: str = "runfold"
    host: str = "127.0.0.1"
    port: int = 5000
    workers: int = 1
    pool_size: int = 8
    max_body_bytes: int = MAX_REQUEST_BODY_BYTES
    read_wait: float = 10.0
    kafka_timeout: float = 10.0
    ends_timeout: float = 5.0
    postgres_timeout: float = 30.0
    acquire_timeout: float = 5.0
    graceful_shutdown: float = 10.0
    search_bytes: int = 512 * 1024 * 1024
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    webhook_schemes: tuple[str, ...] = ("https",)
    s3: S3Config | None = None
    s3_timeout: float = 30.0
    artifact_check_period: float = 7 * 86_400.0
