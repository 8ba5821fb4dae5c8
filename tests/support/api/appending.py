"""Appends of event batches over `POST /api/runfold/v1/events`."""

import itertools
from typing import Any

import httpx2

from runfold_schemas.codec.batch import CONTENT_TYPE, Outgoing, encode_batch
from runfold_schemas.events.runs import RunCreated
from runfold_schemas.positions.topics import Topic
from tests.support.installations.in_process import outgoing

_writers = itertools.count()


def send(client: httpx2.Client, *records: Outgoing, wait: str | None = None) -> list[Any]:
    """Append a batch, check that the server acknowledges it, and return one result a record."""
    answer = client.post(
        "/api/runfold/v1/events",
        params={} if wait is None else {"wait": wait},
        content=encode_batch(records),
        headers={"content-type": CONTENT_TYPE},
    )
    assert answer.status_code == 200, answer.text
    results: list[Any] = answer.json()["results"]
    return results


def run_created(run_id: str) -> Outgoing:
    """The record, of a writer of its own, that creates a run in experiment 0."""
    event = RunCreated(run_id=run_id, experiment_id=0, name=run_id, start_ms=1, artifact_uri="u")
    return outgoing(Topic.RUNS, event, writer=f"creator-{next(_writers)}")


def create_runs(client: httpx2.Client, *run_ids: str) -> None:
    send(client, *map(run_created, run_ids))
