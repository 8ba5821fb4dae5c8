"""The server's Prometheus metrics, each with its unit and meaning."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class ServerMetrics:
    """Counters and histograms of one server process, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "runfold_http_request_seconds",
            "Time to answer a request, by route template, method and status.",
            ("route", "method", "status"),
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "runfold_http_requests_in_flight", "Requests being answered now.", registry=self.registry
        )
        self._appends = Counter(
            "runfold_server_appends_total",
            "Events appended to the log, by topic and result (acknowledged, unacknowledged).",
            ("topic", "result"),
            registry=self.registry,
        )
        self._append_seconds = Histogram(
            "runfold_server_append_seconds",
            "Time until Kafka acknowledged an append.",
            ("topic",),
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._outcome_seconds = Histogram(
            "runfold_server_outcome_wait_seconds",
            "Time from an append's acknowledgement until its outcome was known.",
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._rejected = Counter(
            "runfold_server_rejected_total",
            "Events of this server that a fold rejected, by rejection code.",
            ("code",),
            registry=self.registry,
        )
        self._strong_seconds = Histogram(
            "runfold_server_strong_read_seconds",
            "Time of a strong read: end offsets of the log, waiting for the folds, the query.",
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._search_memory = Gauge(
            "runfold_search_memory_bytes",
            "Memory kept between searches: columns of runs, and runs as JSON.",
            registry=self.registry,
        )

        self._damaged = Counter(
            "runfold_artifacts_damaged_total",
            "Reads of a file whose bytes differed from its digest in the log, by reader (download, check).",
            ("reader",),
            registry=self.registry,
        )
        self._checked = Counter(
            "runfold_artifacts_checked_total",
            "Files read in the background and compared with the log.",
            registry=self.registry,
        )
        self._checked_bytes = Counter(
            "runfold_artifacts_checked_bytes_total",
            "Bytes read in the background and compared with the log.",
            registry=self.registry,
        )
        for reader in ("download", "check"):
            self._damaged.labels(reader)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Record a finished request."""
        self._requests.labels(route, method, str(status)).observe(seconds)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request while it is being answered."""
        self._in_flight.inc()
        try:
            yield
        finally:
            self._in_flight.dec()

    @contextmanager
    def append(self, topic: str) -> Iterator[None]:
        """Record an append; an exception counts it as unacknowledged."""
        began = perf_counter()
        try:
            yield
        except BaseException:
            self._appends.labels(topic, "unacknowledged").inc()
            raise
        self._appends.labels(topic, "acknowledged").inc()
        self._append_seconds.labels(topic).observe(perf_counter() - began)

    def outcome(self, seconds: float) -> None:
        """Record the time until a write's outcome was known."""
        self._outcome_seconds.observe(seconds)

    def rejected(self, code: str) -> None:
        """Count an event of this server that a fold rejected."""
        self._rejected.labels(code).inc()

    def strong_read(self, seconds: float) -> None:
        """Record the time of a strong read."""
        self._strong_seconds.observe(seconds)

    def search_memory(self, size: int) -> None:
        """Record the bytes kept between searches."""
        self._search_memory.set(size)

    def damaged_artifact(self, reader: str) -> None:
        """Count a read of a file whose bytes differed from its digest."""
        self._damaged.labels(reader).inc()

    def checked_artifact(self, size: int) -> None:
        """Count a file that was read in the background, and its size in bytes."""
        self._checked.inc()
        self._checked_bytes.inc(size)

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self.registry)
