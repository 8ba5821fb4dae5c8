"""The workers' Prometheus metrics. The reference page lists them from here."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

WHERE = ("handler", "topic", "partition")


class WorkerMetrics:
    """One worker's metrics, on a registry of their own, which its reactions add to."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.lag_events = Gauge(
            "runfold_lag_events", "Records between the checkpoint and the log's end.", WHERE, registry=r
        )
        self.lag_seconds = Gauge(
            "runfold_lag_seconds",
            "Age of the last folded record by the broker's time while there is a lag, else 0.",
            WHERE,
            registry=r,
        )
        self.batch_records = Histogram(
            "runfold_batch_records",
            "Records per committed batch.",
            ("handler",),
            registry=r,
            buckets=[1, 10, 100, 1000, 10_000],
        )
        self.fold_seconds = Histogram(
            "runfold_fold_seconds",
            "Time to fold and commit one batch.",
            ("handler",),
            registry=r,
            buckets=[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10],
        )
        self.folded = Counter("runfold_folded", "Records folded.", ("handler",), registry=r)
        self.duplicates = Counter(
            "runfold_duplicates",
            "Records dropped because their sequence number was received before.",
            ("handler",),
            registry=r,
        )
        self.rejected = Counter("runfold_rejected", "Events that a fold rejected.", ("handler",), registry=r)
        self.dead_letters = Counter(
            "runfold_dead_letters",
            "Records that could not be decoded (dead letters), by reason.",
            ("handler", "reason"),
            registry=r,
        )
        self.failures = Counter(
            "runfold_failures", "Failed attempts to read, fold or commit, by error.", ("handler", "error"), registry=r
        )
        self.compaction_backlog = Gauge(
            "runfold_compaction_backlog_segments",
            "Level-0 segments of metrics that wait for compaction.",
            ("handler", "partition"),
            registry=r,
        )
        self.held = Gauge("runfold_partitions_held", "Partitions this worker holds.", registry=r)
        self.blocked = Gauge("runfold_partitions_blocked", "Partitions that need a newer release.", registry=r)
        self.sequence_holes = Gauge(
            "runfold_sequence_holes",
            "Sequence numbers that are missing below the highest received of their writers, by topic.",
            ("topic",),
            registry=r,
        )
