"""Page tokens that hold an offset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_server.core.errors import InvalidParameter
from runfold_server.mlflow import offset_tokens


@given(st.integers(1, 2**53))
def test_tokens_come_back(offset: int) -> None:
    assert offset_tokens.read_token(offset_tokens.make_token(offset)) == offset


def test_tokens_as_mlflow_makes_them() -> None:
    assert offset_tokens.make_token(2) == "eyJvZmZzZXQiOiAyfQ=="


@pytest.mark.parametrize("token", ["zz", "e30=", "W10=", "eyJvZmZzZXQiOiAtMX0=", "eyJvZmZzZXQiOiAxZTk5fQ==", "é"])
def test_tokens_nobody_made(token: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid page token"):
        offset_tokens.read_token(token)
