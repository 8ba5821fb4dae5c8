"""Names of the workers' metrics: a closed set, from which the operations page is made."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

WHERE = ("handler", "topic", "partition")


class WorkerMetrics:
    """The worker's Prometheus metrics, on a registry of their own."""

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
            "Records dropped because their sequence was received before.",
            ("handler",),
            registry=r,
        )
        self.rejected = Counter("runfold_rejected", "Events that a fold rejected.", ("handler",), registry=r)
        self.set_aside = Counter(
            "runfold_set_aside", "Records set aside, by reason.", ("handler", "reason"), registry=r
        )
        self.failures = Counter(
            "runfold_failures", "Failed attempts to read, fold or commit, by error.", ("handler", "error"), registry=r
        )
        self.merge_backlog = Gauge(
            "runfold_merge_backlog_segments",
            "Segments of metrics that wait to be merged; a partition whose folding waits for it has a source with eight times the usual number.",
            ("handler", "partition"),
            registry=r,
        )
        self.held = Gauge("runfold_partitions_held", "Partitions this worker holds.", registry=r)
        self.blocked = Gauge("runfold_partitions_blocked", "Partitions this worker can't go on with.", registry=r)
