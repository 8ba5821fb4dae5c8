"""Large JSON: what is counted, and that pieces are the whole."""

import asyncio
import json
import math
import threading
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_projections.series.latest import MetricHistory
from runfold_server.core.errors import TooLarge, Unavailable
from runfold_server.http import large_json
from runfold_server.mlflow.answers import metrics

_TEXTS = st.text() | st.text('\\",[{a')
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _TEXTS,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(_TEXTS, inner, max_size=8),
    max_leaves=40,
)


def _values(value: Any) -> int:
    """Values below this one, and openings."""
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(0, len(value) - 1) + sum(map(_values, inner))
    return 0


@given(_JSON, st.sampled_from([2, 4, 6, 1000]))
def test_exactly_the_values_outside_of_texts_are_counted(value: Any, scanned: int) -> None:
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    count = _values(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "BODY_BYTES", -1)
        patch.setattr(large_json, "_SCANNED", scanned)
        patch.setattr(large_json, "MOST_VALUES", count)
        large_json.refuse_many(body)
        if count:
            patch.setattr(large_json, "MOST_VALUES", count - 1)
            with pytest.raises(TooLarge):
                large_json.refuse_many(body)


@pytest.mark.parametrize("one", [b"[],", b"{},", b"1,", b'"",', b'{"k\\u0065y":""},', b'"\\\\",'])
def test_a_body_of_very_many_values_is_refused_in_whatever_form(one: bytes) -> None:
    with pytest.raises(TooLarge, match="more than 100000 values"):
        large_json.refuse_many(b"[" + one * 200_000 + b"1]")
    with pytest.raises(TooLarge, match="more than 100000 values"):
        large_json.refuse_many(b'["\\"",' + one * 200_000 + b"1]")


@pytest.mark.parametrize("text", ['{"a": [1, 2]}, ' * 50_000, '"' * 500_000, "\\" * 500_001, '\\",' * 300_000])
def test_a_text_is_one_value_whatever_is_in_it(text: str) -> None:
    large_json.refuse_many(json.dumps({"tags": [{"key": "k", "value": text}]}).encode())


@given(_JSON, st.integers(1, 4), st.integers(1, 40))
def test_pieces_are_the_whole(value: Any, at_once: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "_AT_ONCE", at_once)
        patch.setattr(large_json, "_PIECE_BYTES", size)
        try:
            want = msgspec.json.encode(value)
        except UnicodeEncodeError:
            return
        found = large_json.pieces(value)
        assert b"".join(found) == want
        assert all(found)


def test_a_long_history_is_made_some_points_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = MetricHistory(np.arange(23), np.arange(23) * 10, np.array([1.0, math.nan, math.inf, *range(20)]))
    asked = ((0, 23), (2, 15), (20, 99), (30, 40))
    want = [metrics.encode_history("k", rows, start, stop) for start, stop in asked]
    assert [len(one) for one in want] == [23, 13, 3, 0]
    monkeypatch.setattr(metrics, "_POINTS_PER_PIECE", 4)
    assert [metrics.encode_history("k", rows, start, stop) for start, stop in asked] == want


def test_answers_with_many_items_are_large() -> None:
    many = [0] * (large_json.ITEMS + 1)
    assert not large_json.is_large({"run": {"data": {"metrics": many[1:]}}})
    assert large_json.is_large({"run": {"data": {"metrics": many}}})
    assert large_json.is_large({"run": {"metrics": dict(enumerate(many))}})


async def test_large_work_is_done_by_one_thread() -> None:
    assert (
        await large_json.beside(threading.get_ident)
        == await large_json.beside(threading.get_ident)
        != threading.get_ident()
    )


async def test_unsent_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_json, "MOST_UNSENT", 30)
    sent, seen = [], []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        if len(sent) == 1:
            with pytest.raises(Unavailable):
                large_json.InPieces([b"a" * 30])
            seen.append(large_json.InPieces.unsent)

    answer = large_json.InPieces([b"a" * 10, b"b" * 10])
    await answer({}, None, send)  # type: ignore[arg-type]
    assert b"".join(sent) == b"a" * 10 + b"b" * 10
    assert answer.headers["content-length"] == "20"
    assert seen == [20]
    assert large_json.InPieces.unsent == 0


async def test_an_answer_that_nobody_takes_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_json, "SEND_SECONDS", 0.0)

    async def send(_: Any) -> None:
        await asyncio.sleep(600)

    await large_json.InPieces([b"a"])({}, None, send)  # type: ignore[arg-type]
    assert large_json.InPieces.unsent == 0
