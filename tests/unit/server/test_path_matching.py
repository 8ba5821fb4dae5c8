"""Paths with placeholders: who serves what, and what stands in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_server.http.messages import NoFields
from runfold_server.http.operation import Operation
from runfold_server.http.path_matching import Paths


async def _handler(*_: Any) -> dict[str, Any]:
    return {}


PATHS = Paths(
    Operation(method, path, NoFields, _handler)
    for method, path in (
        ("POST", "things"),
        ("POST", "things/search"),
        ("GET", "things/{id}"),
        ("DELETE", "things/{id}"),
        ("PATCH", "things/{id}/tags"),
        ("DELETE", "things/{id}/tags/{key:path}"),
    )
)


@pytest.mark.parametrize(
    ("path", "declared", "placed"),
    [
        ("things", "things", {}),
        ("things/search", "things/search", {}),
        ("things/a b", "things/{id}", {"id": "a b"}),
        ("things/a/tags", "things/{id}/tags", {"id": "a"}),
        ("things/a/tags/b/c", "things/{id}/tags/{key:path}", {"id": "a", "key": "b/c"}),
        ("things/a/tags/b\n", "things/{id}/tags/{key:path}", {"id": "a", "key": "b\n"}),
    ],
)
def test_a_path_is_served_by_who_declared_it(path: str, declared: str, placed: dict[str, str]) -> None:
    found = PATHS.find(path)
    assert found is not None
    assert (found.path, found.placed) == (declared, placed)


@pytest.mark.parametrize("path", ["", "other", "things/", "things//tags", "things/a/tags/", "things/a/other", "Things"])
def test_what_nobody_declared_is_served_by_nobody(path: str) -> None:
    assert PATHS.find(path) is None


def test_methods_of_one_path_stand_together() -> None:
    found = PATHS.find("things/x")
    assert found is not None
    assert sorted(found.methods) == ["DELETE", "GET"]


SEGMENT = st.text(min_size=1).filter(lambda text: "/" not in text)


@given(SEGMENT.filter(lambda text: text != "search"), st.lists(SEGMENT, min_size=1).map("/".join))
def test_any_text_without_a_slash_is_a_segment_and_the_last_one_may_have_several(one: str, key: str) -> None:
    for path, placed in ((f"things/{one}", {"id": one}), (f"things/{one}/tags/{key}", {"id": one, "key": key})):
        found = PATHS.find(path)
        assert found is not None
        assert found.placed == placed
