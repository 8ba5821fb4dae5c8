"""Recorded answers of MLflow 3.17.2, request by request: ours are equal, or listed here with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.support.installations.server_pair import ServerPair

RECORDED = Path(__file__).parents[2] / "support" / "mlflow" / "answers.txt"
ELSEWHERE = ("artifact", "registered-models", "model-versions")
"""What is no tracking: other tests have it."""
DEPARTURES = {
    "POST /api/2.0/mlflow/runs/create {bad": "MLflow takes a broken body for an empty one and shows the failing SQL",
    "POST /api/2.0/mlflow/runs/create ": "an empty body names no experiment; MLflow shows the failing SQL",
    "GET /api/3.0/mlflow/server-info ": "what this server can do is something else",
}
RUN = "b69795a335d747d1a0db764d969660fa"
NAME = "gregarious-owl-904"


@dataclass(frozen=True)
class Recorded:
    """A request and what MLflow answered: the status and type are None where the recording was cut."""

    title: str
    method: str
    path: str
    body: str
    answer: str
    status: int | None
    kind: str | None


def recorded() -> Iterator[Recorded]:
    for block in re.split(r"^## ", RECORDED.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, answer = block.partition("\n")
        method, path, body = title.split(" ", 2)
        end = re.search(r"\s\[(\d{3}) ([^\]]*)\]\s*$", answer)
        text = answer[: end.start()] if end else answer.strip()
        status, kind = (int(end[1]), end[2]) if end else (None, None)
        yield Recorded(title, method, path, body, text.strip(), status, kind)


CASES = [one for one in recorded() if not any(word in one.path for word in ELSEWHERE)]


def sent(client: httpx2.Client, one: Recorded, run_id: str) -> httpx2.Response:
    content = one.body.replace(RUN, run_id).encode()
    # As the recording's client: a body, be it empty, comes with its type.
    headers = {"content-type": "application/json"} if one.method != "GET" else {}
    return client.request(one.method, one.path.replace(RUN, run_id), content=content or None, headers=headers)


def plain(text: str, run_id: str, name: str) -> str:
    """Names as recorded, and blanks too: the recording has one where there were several."""
    return " ".join(text.replace(run_id, RUN).replace(name, NAME).split())


def meant(value: Any) -> Any:
    """The answer without what differs from one installation to the next."""
    if isinstance(value, dict):
        return {k: 0 if k in ("creation_time", "last_update_time") else meant(v) for k, v in value.items()}
    return [meant(item) for item in value] if isinstance(value, list) else value


def test_every_tracking_answer_is_mlflows(servers: ServerPair) -> None:
    with servers.client() as client:
        # What the recorded installation held besides.
        client.post("/api/2.0/mlflow/experiments/create", json={"name": "trace-exp"})
        created = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0", "start_time": 1}).json()["run"]
        run_id, name = created["info"]["run_id"], created["info"]["run_name"]
        differences = {}
        for one in CASES:
            answer = sent(client, one, run_id)
            said = plain(answer.text, run_id, name)
            if one.title in DEPARTURES:
                assert answer.status_code in (200, 400)
                continue
            difference = compared(one, answer, said)
            if difference:
                differences[one.title] = difference
    assert differences == {}


def compared(one: Recorded, answer: httpx2.Response, said: str) -> str:
    if one.status is None:
        return "" if cut(one.answer, said) else f"{one.answer!r} was recorded, {said!r} is answered"
    if answer.status_code != one.status:
        return f"{one.status} was recorded, {answer.status_code} is answered: {said}"
    if (one.kind or "").split(";")[0] != answer.headers["content-type"].split(";")[0]:
        return f"{one.kind} was recorded, {answer.headers['content-type']} is answered"
    if one.kind == "application/json":
        theirs, ours = meant(json.loads(one.answer)), meant(json.loads(said))
    else:
        theirs, ours = " ".join(one.answer.split()), " ".join(said.split())
    return "" if theirs == ours else f"{theirs} was recorded, {ours} is answered"


def cut(theirs: str, ours: str) -> bool:
    """Whether a recording that was cut begins as our answer does: its fields are compared as far as they are whole."""
    told = json.loads(ours)
    if "error_code" in told:
        # What MLflow adds of its database's words is not for callers.
        message = told["message"]
        return f'"error_code": "{told["error_code"]}"' in theirs and f'"message": "{message.rstrip(".")}' in theirs
    compact = re.sub(r"\s+", "", theirs)
    pairs = re.findall(r'"(\w+)":("[^"]*"|-?[\d.]+)', compact)
    mine = re.sub(r"\s+", "", ours)
    return len(pairs) > 5 and all(f'"{key}":{value}' in mine for key, value in pairs)


def test_departures_are_of_requests_that_were_recorded() -> None:
    assert set(DEPARTURES) <= {one.title for one in CASES}
    assert len(CASES) > 40
