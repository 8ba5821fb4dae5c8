"""What a training with traces is told by a server that keeps none: one warning, from the unmodified client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runfold_server.mlflow.tracking.declined_traces import Announced
from tests.support.installations.server_fixtures import client, servers

__all__ = ["client", "servers"]

TRAINING = """
import mlflow, sys
mlflow.set_tracking_uri(sys.argv[1])

@mlflow.trace
def embed(text):
    return len(text)

@mlflow.trace(span_type="LLM", attributes={"model": "small"})
def answer(text):
    with mlflow.start_span("inner") as span:
        span.set_inputs({"text": text})
        span.set_outputs(embed(text))
    return text.upper()

@mlflow.trace
def train(steps):
    for step in range(steps):
        answer(f"step {step}")
        if sys.argv[2] == "run":
            mlflow.log_metric("loss", 1 / (step + 1), step=step)

if sys.argv[2] == "run":
    with mlflow.start_run() as run:
        train(5)
        for number in range(30):
            answer(f"{number}")
    mlflow.flush_trace_async_logging()
    assert len(mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")) == 5
else:
    for number in range(30):
        answer(f"{number}")
    mlflow.flush_trace_async_logging()
"""


def train(url: str, tmp_path: Path, where: str) -> str:
    script = tmp_path / f"train_{where}.py"
    script.write_text(TRAINING)
    done = subprocess.run(
        [sys.executable, str(script), url, where], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_traced_training_is_warned_once(servers, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for where in ("run", "alone"):
        told = train(servers.uris[0], tmp_path, where)
        warnings = [line for line in told.splitlines() if "WARNING" in line or "ERROR" in line]
        assert len(warnings) == 1, told
        assert "Traces are not served by this release of Runfold" in warnings[0]


def test_spans_are_sent_no_more_once_the_server_has_said_so(servers, client) -> None:  # type: ignore[no-untyped-def]
    answer = client.post("/v1/traces", content=b"x", headers={"content-type": "application/x-protobuf"})
    assert answer.status_code == 501
    assert "REST OTLP span logging is not supported" in answer.json()["message"]


def test_what_was_said_is_said_again_after_a_while_and_remembered_of_few() -> None:
    assert [Announced(seconds=60).announced_before(("a",)) for _ in range(2)] == [False, False]
    told = Announced(most=2, seconds=60)
    assert [told.announced_before((who,)) for who in "aabcab"] == [False, True, False, False, False, False]
    forgetful = Announced(seconds=0)
    assert [forgetful.announced_before(("a",)) for _ in range(2)] == [False, False]
