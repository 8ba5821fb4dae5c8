"""Keys of a run over real Kafka and Postgres: prefix, pattern, pages, latest values and extremes."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.support.mlflow.caller import Caller


def keys(client: httpx2.Client, run: str, **query: Any) -> Any:
    answer = client.get(f"/api/runfold/v1/runs/{run}/metrics", params=query)
    answer.raise_for_status()
    return answer.json()


def names(answer: Any) -> list[str]:
    return [one["key"] for one in answer["metrics"]]


def log(caller: Caller, run: str, *points: tuple[str, int, float | str]) -> None:
    metrics = [{"key": k, "step": s, "timestamp": 10 + s, "value": v} for k, s, v in points]
    for at in range(0, len(metrics), 1000):
        caller.post("runs/log-batch", run_id=run, metrics=metrics[at : at + 1000])


def test_each_key_has_its_latest_value_and_its_extremes(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    assert keys(client, run)["metrics"] == []
    log(caller, run, ("loss", 1, 3.0), ("loss", 2, 1.0), ("loss", 3, 2.0), ("nan", 1, "NaN"), ("inf", 1, "-Infinity"))
    assert keys(client, run)["metrics"] == [
        {"key": "inf", "last": "-Infinity", "step": 1, "time": 11, "min": "-Infinity", "max": "-Infinity"},
        {"key": "loss", "last": 2.0, "step": 3, "time": 13, "min": 1.0, "max": 3.0},
        {"key": "nan", "last": "NaN", "step": 1, "time": 11, "min": None, "max": None},
    ]


def test_pages_hold_every_key_once_also_while_keys_are_added(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    first = [f"layer_{n}/grad" for n in range(25)]
    log(caller, run, *((key, 0, 1.0) for key in first))
    found, token = [], ""
    while True:
        page = keys(client, run, limit=7, page_token=token)
        found += names(page)
        if "next_page_token" not in page:
            break
        token = page["next_page_token"]
        log(caller, run, (f"a{len(found)}", 0, 1.0), (f"z{len(found)}", 0, 1.0))
    assert [key for key in found if key in first] == sorted(first)
    assert len(found) == len(set(found))
    assert found == sorted(found)


def test_a_prefix_is_taken_literally_and_a_pattern_is_searched(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    log(caller, run, *((key, 0, 1.0) for key in ("val/loss", "val/acc", "train/loss", "val_loss", "value")))
    assert names(keys(client, run, prefix="val/")) == ["val/acc", "val/loss"]
    assert names(keys(client, run, prefix="val_")) == ["val_loss"]
    assert names(keys(client, run, prefix="%")) == []
    assert names(keys(client, run, regex="loss$")) == ["train/loss", "val/loss", "val_loss"]
    assert names(keys(client, run, regex="^val.(loss|acc)$", prefix="val/")) == ["val/acc", "val/loss"]
    assert names(keys(client, run, prefix="\x7f\U0010ffff")) == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"regex": "(unclosed"}, "is no regular expression"),
        ({"regex": "(?:a{1,255}){1,255}"}, "is too large"),
        ({"regex": "a" * 1001}, "has 1001 characters; at most 1000"),
        ({"limit": 0}, "'limit'"),
        ({"page_token": "?"}, "'page_token' must be the `next_page_token`"),
        ({"consistency": "maybe"}, "'consistency'"),
    ],
)
def test_a_question_that_can_not_be_answered_says_why(
    client: httpx2.Client, caller: Caller, query: dict[str, Any], said: str
) -> None:
    answer = client.get(f"/api/runfold/v1/runs/{caller.run()}/metrics", params=query)
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_a_pattern_that_takes_for_ever_is_given_up_as_the_callers_fault(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    log(caller, run, ("a" * 239 + "b", 0, 1.0))
    answer = client.get(f"/api/runfold/v1/runs/{run}/metrics", params={"regex": r"^(a+)(a+)(a+)(a+)\4\3\2\1b$"})
    assert answer.status_code == 400
    assert "took longer than 2 s" in answer.json()["message"]


def test_an_unknown_run_is_not_found(client: httpx2.Client) -> None:
    for run in ("0" * 32, "nul%00", "a"):
        assert client.get(f"/api/runfold/v1/runs/{run}/metrics").status_code == 404


def test_all_of_100_000_keys_are_found_in_pages(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    for start in range(0, 100_000, 20_000):
        log(caller, run, *((f"layer_{n:06}", 0, float(n)) for n in range(start, start + 20_000)))
    page = keys(client, run, prefix="layer_0999", limit=10_000)
    assert [one["last"] for one in page["metrics"]] == list(range(99900, 100_000))
    assert len(keys(client, run, limit=10_000)["metrics"]) == 10_000
