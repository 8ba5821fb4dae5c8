"""Tokens of searches of logged models are MLflow's: they belong to one search."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.utils.search_utils import SearchLoggedModelsPaginationToken

from runfold_server.core.errors import InvalidParameter
from runfold_server.mlflow.logged_models.search_tokens import make_token, read_token

ORDER = [{"field_name": "metrics.a", "ascending": True, "dataset_name": None, "dataset_digest": None}]


@pytest.mark.parametrize("order", [None, ORDER])
def test_a_token_is_one_that_mlflow_reads_and_writes(order: Any) -> None:
    theirs = SearchLoggedModelsPaginationToken(["1", "2"], "name = 'a'", order, 7)
    ours = make_token(["1", "2"], "name = 'a'", order, 7)
    assert SearchLoggedModelsPaginationToken.decode(ours) == theirs
    assert read_token(theirs.encode(), ["1", "2"], "name = 'a'", order) == 7


def test_no_token_is_the_beginning() -> None:
    assert read_token(None, [], None, None) == read_token("", [], None, None) == 0


@pytest.mark.parametrize(
    "search", [(["2"], "name = 'a'", ORDER), (["1"], None, ORDER), (["1"], "name = 'a'", None), (["1"], "b", ORDER)]
)
def test_a_token_of_another_search_is_refused_in_mlflows_words(search: tuple[list[str], str | None, Any]) -> None:
    token = make_token(["1"], "name = 'a'", ORDER, 3)
    with pytest.raises(Exception, match="in the page token") as theirs:
        SearchLoggedModelsPaginationToken.decode(token).validate(*search)
    with pytest.raises(InvalidParameter) as ours:
        read_token(token, *search)
    assert ours.value.message == getattr(theirs.value, "message", None)


@pytest.mark.parametrize(
    "token", ["zz", "bm8=", "e30=", "W10=", "eyJvZmZzZXQiOiB0cnVlfQ==", "eyJvZmZzZXQiOiAtMX0=", "ü"]
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid page token"):
        read_token(token, [], None, None)
