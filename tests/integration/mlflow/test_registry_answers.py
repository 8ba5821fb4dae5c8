"""Recorded answers of MLflow 3.17.2 about the registry: ours are equal, or listed here with the reason."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.registry_conversation import RECORDED, REQUESTS, converse, title

DEPARTURES: dict[str, str] = {
    'POST model-versions/create {"name": "m2", "source": "models:/m1/Staging"}': "a caller can mend it; MLflow: 500",
    'GET registered-models/search {"filter": "version': "a word of SQL, which its lexer takes for that",
    'GET registered-models/search {"order_by": "nothing': "a word of SQL",
    'GET model-versions/search {"filter": "nothing': "a word of SQL",
    'GET model-versions/search {"order_by": "nothing': "a word of SQL",
}
"""Beginning of a request -> why the answer is another one."""


def _send(client: httpx2.Client, method: str, path: str, body: Any) -> tuple[int, Any]:
    address = f"/api/2.0/mlflow/{path}"
    given: dict[str, Any] = {"params": body} if method == "GET" else {"json": body}
    answer = client.request(method, address, **given)
    return answer.status_code, answer.json()


def _in_order(answer: Any) -> Any:
    """Sets in messages have no order in MLflow's; nor have tags, aliases and the latest versions."""
    if isinstance(answer, dict):
        ordered = {key: _in_order(value) for key, value in answer.items()}
        for key in ("latest_versions", "model_versions"):
            if key in ordered and "next_page_token" not in ordered:
                ordered[key] = sorted(ordered[key], key=lambda one: (one["name"], one["version"]))
        return ordered
    if isinstance(answer, list):
        return [_in_order(item) for item in answer]
    if isinstance(answer, str) and "{'" in answer:
        head, _, rest = answer.partition("{")
        words, _, tail = rest.partition("}")
        return f"{head}{{{', '.join(sorted(words.split(', ')))}}}{tail}"
    return answer


def _as_in_lists(ask: str, answer: Any) -> Any:
    """MLflow omits the aliases of versions in a model or a search; `test_one_answer_law.py` requires them."""
    if isinstance(answer, list):
        return [_as_in_lists(ask, item) for item in answer]
    if not isinstance(answer, dict):
        return answer
    said = {key: _as_in_lists(ask, value) for key, value in answer.items()}
    for key in ("latest_versions", *(["model_versions"] if ask.startswith("GET model-versions/search") else [])):
        if key in said:
            said[key] = [{name: value for name, value in one.items() if name != "aliases"} for one in said[key]]
    return said


def _reason(ask: str) -> str:
    return next((why for start, why in DEPARTURES.items() if ask.startswith(start)), "")


def test_every_answer_is_mlflows(servers: ServerPair) -> None:
    theirs = json.loads(RECORDED.read_text(encoding="utf-8"))
    with servers.client() as client:
        run = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0", "start_time": 1}).json()
        ours = converse(lambda *ask: _send(client, *ask), run["run"]["info"]["run_id"])
    differences = [
        f"{mine['ask']}\n  recorded {one['status']} {one['answer']}\n  answered {mine['status']} {mine['answer']}"
        for one, mine in zip(theirs, ours, strict=True)
        if _in_order(_as_in_lists(mine["ask"], one)) != _in_order(_as_in_lists(mine["ask"], mine))
        and not _reason(mine["ask"])
    ]
    assert not differences, "\n".join(differences)


def test_departures_are_of_requests_that_were_recorded() -> None:
    for start in DEPARTURES:
        assert any(title(ask).startswith(start) for ask in REQUESTS), start
