"""Valid and invalid requests generated from the OpenAPI document.

None gets a 500, all answers match their schemas, and a rejected request changes nothing.

`RUNFOLD_SOAK` makes it long, and `RUNFOLD_SEED` another one: `make soak`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok

from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import CONTENT_TYPE, Outgoing, encode_batch
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.events.runs import RunCreated
from runfold_schemas.ids import Ids
from runfold_schemas.positions.topics import Topic
from runfold_server.app.routes import api_document
from tests.support.api.conformance import problems
from tests.support.installations.server_pair import ServerPair, server_pair
from tests.support.services.running import Services

SOAK = bool(os.environ.get("RUNFOLD_SOAK"))
JSON = "application/json"
EVENTS = "/api/runfold/v1/events"
ENDLESS = ("/api/runfold/v1/series:live", "/api/runfold/v1/events:stream")
EXAMPLES = 300 if SOAK else 12
SCHEMA = schemathesis.openapi.from_dict(api_document())
OPERATIONS = {
    f"{operation.method.upper()} {operation.path}": operation
    for operation in (result.ok() for result in SCHEMA.get_all_operations() if isinstance(result, Ok))
    if operation.path not in ENDLESS
    and all(body.media_type == JSON for body in operation.body)
    and (list(operation.query) or list(operation.body))
}
"""Calls with parameters or a JSON body: with the others there is nothing to get wrong.

A live stream has no end to wait for: what they refuse
is in test_series_stream.py and test_event_stream.py."""
# The servers run in threads of this process and draw from its global random, which Hypothesis takes for a strategy's
# doing.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
MODES = {mode.value: mode for mode in schemathesis.GenerationMode}
repeatable = seed(int(os.environ.get("RUNFOLD_SEED", "1"))) if SOAK else lambda test: test
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not SOAK,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Target:
    """A server, and entities that a request may name."""

    servers: ServerPair
    session: requests.Session
    known: dict[str, list[str]]

    @property
    def uri(self) -> str:
        return self.servers.uris[0]


@pytest.fixture(scope="module")
def target(services: Services) -> Iterator[Target]:
    with server_pair(services) as servers, requests.Session() as session:

        def call(path: str, **body: Any) -> Any:
            answer = session.post(f"{servers.uris[0]}/api/2.0/mlflow/{path}", json=body, timeout=30)
            assert answer.status_code == 200, answer.text
            return answer.json()

        active, deleted = (call("experiments/create", name=name)["experiment_id"] for name in ("fuzzed", "deleted"))
        runs = [call("runs/create", experiment_id=active)["run"]["info"]["run_id"] for _ in range(2)]
        call("runs/log-parameter", run_id=runs[0], key="key", value="value")
        call("runs/log-metric", run_id=runs[0], key="key", value=1, timestamp=1)
        call("runs/delete", run_id=runs[1])
        call("experiments/delete", experiment_id=deleted)
        known = {
            "run_id": runs,
            "run_ids": runs,
            "experiment_id": [active, deleted, "0"],
            "experiment_ids": [active, deleted],
            "experiment_name": ["fuzzed", "deleted"],
            "key": ["key", "mlflow.runName", "mlflow.log-model.history"],
            "metric_key": ["key"],
            "filter": ["metrics.key > 0", "params.key = 'value'", "name LIKE '%'", "tags.key != ''"],
            "order_by": ["metrics.key DESC", "name"],
            "timestamp": [0, 1],
        }
        yield Target(servers, session, known)


@pytest.mark.soak
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OPERATIONS)
@repeatable
@fuzz
@given(data=st.data())
def test_no_request_is_a_fault_and_a_refused_one_changes_nothing(
    target: Target, name: str, mode: str, data: st.DataObject
) -> None:
    case = data.draw(OPERATIONS[name].as_strategy(generation_mode=MODES[mode]))
    for holder in (case.query, case.body):
        if isinstance(holder, dict):
            _name_what_is_there(holder, target.known, data)
    before = target.servers.log_size()
    answer = case.call(base_url=target.uri, session=target.session, timeout=30)
    kind = answer.headers.get("content-type", [""])[0]
    assert problems(answer.request.method or "", case.operation.path, answer.status_code, kind, answer.content) == []
    if 400 <= answer.status_code < 500:
        ends, refused = (after - was for after, was in zip(target.servers.log_size(), before, strict=True))
        assert ends == refused, f"{ends} records were appended, {refused} refused: {answer.status_code} {answer.text}"


def _name_what_is_there(fields: dict[str, Any], known: dict[str, list[str]], data: st.DataObject) -> None:
    """Put an entity that exists in place of a generated value, mostly."""
    for field in sorted(fields.keys() & known.keys(), key=str):
        if data.draw(st.integers(0, 3)):
            value = data.draw(st.sampled_from(known[field]))
            fields[field] = [value] if isinstance(fields[field], list) else value


def _batch(count: int) -> bytes:
    ids, records = Ids(), []
    for number in range(count):
        event = RunCreated(run_id=f"native{number}", experiment_id=0, name="n", start_ms=1, artifact_uri="u")
        envelope = Envelope(ids.event_id(), event.subject, 1, Writer("fuzz", "here"), number)
        records.append(Outgoing(Topic.RUNS, event.run_id.encode(), wire.encode(event), envelope.headers()))
    return encode_batch(records)


BATCH = _batch(3)
wrong_bytes = st.one_of(
    st.binary(max_size=200),
    st.integers(0, len(BATCH) - 1).map(lambda size: BATCH[:size]),
    st.tuples(st.integers(0, len(BATCH) - 1), st.binary(min_size=1, max_size=4)).map(
        lambda change: BATCH[: change[0]] + change[1] + BATCH[change[0] + len(change[1]) :]
    ),
    st.binary(min_size=1, max_size=9).map(lambda more: BATCH + more),
)


@pytest.mark.soak
@repeatable
@settings(fuzz, max_examples=10 * EXAMPLES)
@given(wrong_bytes, st.sampled_from(["append", "outcome"]))
def test_a_batch_of_events_is_appended_whole_or_not_at_all(target: Target, body: bytes, wait: str) -> None:
    before, _ = target.servers.log_size()
    answer = target.session.post(
        f"{target.uri}{EVENTS}", params={"wait": wait}, data=body, headers={"content-type": CONTENT_TYPE}, timeout=30
    )
    kind = answer.headers.get("content-type", "")
    assert problems("POST", EVENTS, answer.status_code, kind, answer.content) == []
    appended = target.servers.log_size()[0] - before
    if answer.status_code == 400:
        assert appended == 0
    else:
        assert (answer.status_code, appended) == (200, len(answer.json()["results"]))
