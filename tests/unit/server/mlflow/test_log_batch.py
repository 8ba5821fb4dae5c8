"""A plain log-batch decodes to the request that the parser of its fields returns."""

import json
import math
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runfold_server.core.errors import ApiError
from runfold_server.http.messages import parse_message
from runfold_server.http.request_body import read_json
from runfold_server.mlflow.tracking.log_batch import LogBatch, checked_points

keys = st.sampled_from(["loss", "a/b", "é", "", "../x", "a//b", "x" * 250, "x" * 251, "nul\x00", "?"]) | st.text(
    max_size=5
)
numbers = st.integers(-(2**65), 2**65) | st.floats() | st.sampled_from(["NaN", "7", "x", True, None])
metrics = st.fixed_dictionaries(
    {"key": keys, "value": numbers, "timestamp": numbers},
    optional={
        "step": numbers,
        "model_id": st.none() | keys,
        "modelId": keys,
        "dataset_name": keys,
        "surprise": st.just(1),
    },
)
plain = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["loss", "b"]),
        "value": st.floats(allow_nan=False),
        "timestamp": st.integers(0, 2**63 - 1),
    },
    optional={"step": st.integers(-(2**63), 2**63 - 1), "model_id": st.just("m-1")},
)
batches = st.fixed_dictionaries(
    {"run_id": st.sampled_from(["r", "", 7]), "metrics": st.lists(plain | metrics, max_size=3)},
    optional={"run_uuid": st.just("r"), "params": st.just([]), "tags": st.lists(st.just({"key": "k"}), max_size=1)},
)


def read(batch: LogBatch) -> Any:
    try:
        points: Any = checked_points(batch.metrics)
    except ApiError as error:
        points = error.message
    return batch.run_id, batch.params, batch.tags, points


def in_full(body: bytes) -> Any:
    return read(parse_message(LogBatch, read_json(body, "application/json")))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(batches)
def test_what_the_quick_reader_takes_the_full_one_reads_alike(batch: dict[str, Any]) -> None:
    body = json.dumps(batch).encode()
    quick = LogBatch.decode_plain(body)
    if quick is not None:
        try:
            full = in_full(body)
        except ApiError as error:
            raise AssertionError(f"refused in full: {error.message}") from error
        assert read(quick) == full


@given(st.lists(plain, min_size=1, max_size=5))
def test_the_form_that_clients_send_is_read_quickly(metrics: list[dict[str, Any]]) -> None:
    quick = LogBatch.decode_plain(json.dumps({"run_id": "r", "run_uuid": "r", "metrics": metrics}).encode())
    finite = all(math.isfinite(metric["value"]) for metric in metrics)
    assert (quick is not None) is finite
