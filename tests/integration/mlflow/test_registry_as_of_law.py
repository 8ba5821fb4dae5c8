"""Asked about a past moment, the API answers what it answered then, by vector and by the broker's time.

Checked for registered models, versions, aliases and logged models over a generated history, missing ones included.
"""

from __future__ import annotations

import itertools
import os
from random import Random
from typing import Any

import httpx2
import pytest

from runfold_schemas.codec.batch import CONTENT_TYPE, encode_batch
from runfold_schemas.positions.topics import Topic
from tests.support.api.moments import HEADER, NATIVE, moment, now
from tests.support.histories import logged_models as model_histories
from tests.support.histories.registry import ALIASES, NAMES, registry_event
from tests.support.installations.in_process import outgoing
from tests.support.mlflow.caller import API, Caller

SOAK = bool(os.environ.get("RUNFOLD_SOAK"))
SEEDS, PIECES, EVENTS = (20, 25, 60) if SOAK else (1, 7, 50)
Question = tuple[str, tuple[tuple[str, str], ...]]
Answer = tuple[int, Any]


def questions() -> list[Question]:
    """Every read of one entity that there is in the registry."""
    found: list[Question] = []
    for name in NAMES:
        found.append((f"{API}registered-models/get", (("name", name),)))
        found.append((f"{API}registered-models/get-latest-versions", (("name", name),)))
        found.append((f"{API}registered-models/get-latest-versions", (("name", name), ("stages", "Staging"))))
        found.append((f"{NATIVE}/models/{name}", ()))
        found.append((f"{NATIVE}/models/{name}", (("limit", "2"), ("offset", "1"))))
        aliases = [(("name", name), ("alias", alias)) for alias in (*ALIASES, "latest")]
        found += [(f"{API}registered-models/alias", which) for which in aliases]
        numbers = [(("name", name), ("version", str(number))) for number in range(1, 6)]
        found += [(f"{API}model-versions/get", which) for which in numbers]
        found.append((f"{API}model-versions/get-download-uri", (("name", name), ("version", "1"))))
    for model_id in model_histories.MODELS:
        found.append((f"{API}logged-models/{model_id}", ()))
        found.append((f"{API}logged-models/{model_id}", (("allow_deleted", "true"),)))
    return found


def ask(client: httpx2.Client, question: Question, as_of: str = "") -> Answer:
    """Status and answer, without where it stands in the log."""
    path, query = question
    asked = dict(query) | ({"as_of": as_of} if as_of else {})
    answer = client.get(path, params=asked)
    assert not as_of or answer.status_code != 200 or HEADER in answer.headers
    body = answer.json()
    body.pop("positions", None)
    if "message" in body:
        body["message"] = body["message"].partition(" as of registry:")[0].rstrip(".")
    return answer.status_code, body


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_registry_asked_about_a_moment_answers_what_it_answered_then(client: httpx2.Client, seed: int) -> None:
    rng, caller = Random(seed), Caller(client)
    runs = [caller.run(), caller.run()]
    sequences = itertools.count()
    remembered: list[tuple[list[str], dict[Question, Answer]]] = []
    for _ in range(PIECES):
        events = [registry_event(rng) for _ in range(EVENTS)]
        body = encode_batch(
            [outgoing(Topic.REGISTRY, event, writer=f"law-{seed}", sequence=next(sequences)) for event in events]
        )
        appended = client.post(f"{NATIVE}/events?wait=outcome", content=body, headers={"content-type": CONTENT_TYPE})
        assert appended.status_code == 200, appended.text
        point = {
            "key": rng.choice("ab"),
            "value": rng.random(),
            "timestamp": rng.randint(0, 9),
            "step": rng.randint(0, 9),
        }
        model_id = rng.choice(model_histories.MODELS)
        caller.post("runs/log-metric", run_id=rng.choice(runs), model_id=model_id, **point)
        answers = {question: ask(client, question) for question in questions()}
        remembered.append(([now(client), str(moment())], answers))
    seen = set()
    for moments, answers in remembered:
        for question, expected in answers.items():
            for at in moments[: 1 + (rng.random() < 0.25)]:
                assert ask(client, question, at) == expected, (question, at)
            seen.add((question[0].removeprefix(f"{API}").partition("/m-")[0], expected[0]))
    assert {200, 404} <= {status for _, status in seen}
    assert len([1 for _, status in seen if status == 200]) >= 6
