"""The tracking store: `mlflow.set_tracking_uri("runfold+kafka://brokers/namespace?api=http://server:5000")`.

Metrics are sent like those of `import runfold`: directly to Kafka, or with `runfold+http://` as frames to the API. A
log call returns immediately, and unacknowledged metrics are kept in the spool. Everything else goes through MLflow's
API, so a changed param raises an error as usual. Reads first wait for the acknowledgement of this process's metrics.

MLflow loads this module through its entry points.
"""

import atexit
import logging
import os
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from mlflow.entities import Metric, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.protos.service_pb2 import LogBatch, LogParam, SetTag
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_length_limit, _validate_metric

from runfold.errors import NotConnected, SdkError
from runfold.pipeline.rows import RowReader
from runfold.pipeline.run_writer import RunWriter
from runfold.run_setup import join_run
from runfold.settings import Settings
from runfold.tracking_uri import PLUGIN_PREFIX
from runfold_schemas.events.frames import Point

_log = logging.getLogger("runfold")
_CALLS_WITHOUT_FLUSH = (LogBatch, LogParam, SetTag)
"""API calls whose answer does not depend on metrics."""


class RunfoldStore(RestStore):
    """MLflow's REST store with a different path for metrics. MLflow creates one per tracking URI."""

    def __init__(self, store_uri: str, artifact_uri: str | None = None) -> None:
        self._settings = Settings.load(store_uri.removeprefix(PLUGIN_PREFIX), "online")
        self._reader = RowReader()
        self._writers: dict[str, RunWriter] = {}
        self._create_lock = threading.Lock()
        self._pid = os.getpid()
        super().__init__(partial(get_default_host_creds, self._settings.web))
        atexit.register(self.close)

    def log_metric(self, run_id: str, metric: Metric) -> None:
        """See RestStore. Returns before the server has the metric."""
        _check([metric])
        self._log_metrics(run_id, [metric])

    def log_batch(self, run_id: str, metrics: Sequence[Metric], params: Sequence[Any], tags: Sequence[Any]) -> None:
        """See RestStore. Waits for params and tags, whose errors prevent the metrics, but not for metrics."""
        _check(metrics)
        if params or tags:
            super().log_batch(run_id, [], params, tags)
        if metrics:
            self._log_metrics(run_id, metrics)

    def update_run_info(self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None) -> Any:
        """See RestStore. The end of a run first waits for its metrics, up to RUNFOLD_FINISH_TIMEOUT."""
        if run_status is not None and RunStatus.is_terminated(run_status):
            writer = self._writers.pop(run_id, None)
            if writer is not None:
                writer.close(self._settings.finish_timeout)
        return super().update_run_info(run_id, run_status, end_time, run_name)

    def close(self) -> None:
        """Wait for acknowledgement, up to RUNFOLD_FINISH_TIMEOUT per run. The rest stays in the spool."""
        self._detach_after_fork()
        while self._writers:
            _, writer = self._writers.popitem()
            writer.close(self._settings.finish_timeout)

    def _call_endpoint(self, api: Any, *args: Any, **kwargs: Any) -> Any:
        if api not in _CALLS_WITHOUT_FLUSH:
            self._flush()
        return super()._call_endpoint(api, *args, **kwargs)

    def _flush(self) -> None:
        self._detach_after_fork()
        for writer in list(self._writers.values()):
            try:
                writer.flush(self._settings.finish_timeout)
            except NotConnected as error:
                _log.warning("runfold: this read may lack the latest metrics: %s", error)

    def _log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        points = [
            Point(
                metric.key,
                float(metric.value),
                metric.step or 0,
                metric.timestamp,
                metric.model_id or None,
                metric.dataset_name or None,
                metric.dataset_digest or None,
            )
            for metric in metrics
        ]
        try:
            self._writer(run_id).add_points(points, self._reader)
        except (ValueError, TypeError, OverflowError, SdkError) as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error

    def _writer(self, run_id: str) -> RunWriter:
        self._detach_after_fork()
        writer = self._writers.get(run_id)
        if writer is None:
            run = self.get_run(run_id)
            if run.info.lifecycle_stage != "active":
                raise MlflowException(f"The run {run_id} is deleted.", error_code=RESOURCE_DOES_NOT_EXIST)
            with self._create_lock:
                writer = self._writers.get(run_id)
                if writer is None:
                    writer = self._writers[run_id] = join_run(self._settings, run_id)
        return writer

    def _detach_after_fork(self) -> None:
        """Start over in a forked child: the writers, their threads and their spools belong to the parent."""
        if self._pid != os.getpid():
            for writer in self._writers.values():
                writer.disown("this writer belongs to the parent process")
            self._writers, self._create_lock, self._pid = {}, threading.Lock(), os.getpid()


def _check(metrics: Sequence[Metric]) -> None:
    """Validate like MLflow's server, before any part of a batch is logged."""
    for metric in metrics:
        _validate_metric(metric.key, metric.value, metric.timestamp, metric.step or 0)
        _validate_length_limit("Metric name", MAX_ENTITY_KEY_LENGTH, metric.key)
