"""Reads of an entity's timeline over Runfold's API."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.support.api.moments import NATIVE


def events(client: httpx2.Client, path: str, **query: Any) -> Any:
    answer = client.get(f"{NATIVE}/{path}/events", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(client: httpx2.Client, path: str, status: int = 200, /, **query: Any) -> Any:
    answer = client.get(f"{NATIVE}/{path}", params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


def kinds(answer: Any) -> list[tuple[str, str]]:
    return [(one["type"].rpartition(".")[2], one["outcome"]) for one in answer["events"]]
