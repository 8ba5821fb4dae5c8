"""Recorded answers of MLflow 3.17.2 in long random conversations: ours are equal, or listed here with the reason."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.tracking_conversation import RECORDED, SEEDS, Script, converse, title

DEPARTURES = {
    "metrics.a/b <= 0.5": "a bare slash is refused by both, by MLflow in words of its lexer, which takes it for a "
    "division"
}
"""A part of a request -> why the answer is another one."""


def _send(client: httpx2.Client, method: str, path: str, body: Any) -> tuple[int, Any]:
    given: dict[str, Any] = {"params": body} if method == "GET" else {"json": body}
    answer = client.request(method, f"/ajax-api/2.0/mlflow/{path}", **given)
    return answer.status_code, answer.json()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_answer_and_the_state_in_the_end_are_mlflows(servers: ServerPair, seed: int) -> None:
    theirs = json.loads(RECORDED.read_text(encoding="utf-8"))[str(seed)]
    with servers.client() as client:
        ours = converse(lambda *ask: _send(client, *ask), seed)
    differences = [
        f"{mine['ask']}\n  recorded {one['status']} {one['answer']}\n  answered {mine['status']} {mine['answer']}"
        for one, mine in zip(theirs, ours, strict=True)
        if one != mine and not any(part in mine["ask"] for part in DEPARTURES)
    ]
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_makes_what_was_recorded(seed: int) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))[str(seed)]
    assert [line["ask"] for line in recorded] == [title(ask) for ask in Script(seed).requests()]
    assert {line["status"] for line in recorded} == {200, 400, 404}


def test_departures_are_of_requests_that_were_recorded() -> None:
    asked = [title(ask) for seed in SEEDS for ask in Script(seed).requests()]
    assert all(any(part in ask for ask in asked) for part in DEPARTURES)
