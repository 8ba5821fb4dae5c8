"""Holes in writers' sequences by the native API."""

import httpx2

from runfold_schemas.events.runs import RunCreated, TagsSet
from runfold_schemas.positions.topics import Topic
from tests.support.api.appending import send
from tests.support.installations.in_process import outgoing

HOLES = "/api/runfold/v1/sequence-holes"


def holes_of(client: httpx2.Client, writer: str) -> list[dict[str, object]]:
    answer = client.get(HOLES, params={"consistency": "strong", "limit": 100})
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["sequence_holes"] if one["writer"] == writer]


def test_numbers_that_are_missing_are_listed_until_they_come(client: httpx2.Client) -> None:
    created = RunCreated(run_id="holey", experiment_id=0, name="", start_ms=1, artifact_uri="u")

    def tag(number: int) -> None:
        event = TagsSet(run_id="holey", tags={f"t{number}": ""})
        send(client, outgoing(Topic.RUNS, event, writer="leaky", sequence=number), wait="outcome")

    send(client, outgoing(Topic.RUNS, created, writer="leaky"), wait="outcome")
    assert holes_of(client, "leaky") == []
    tag(2)
    (holes,) = holes_of(client, "leaky")
    assert (holes["entity"], holes["missing"], holes["first"]) == ("holey", 1, ["1"])
    tag(1)
    assert holes_of(client, "leaky") == []
