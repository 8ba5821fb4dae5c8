"""Every valid name of a new model is found in each form of `models:/` URI, by MLflow's parser and ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.store.artifact.utils.models import _parse_model_uri

from runfold_server.core.errors import InvalidParameter
from runfold_server.mlflow.registry.registry_validation import check_model_name, check_new_model_name
from runfold_server.mlflow.registry.source_rules import check_no_way_up, parse_model_uri

pieces = st.sampled_from(
    [*"ab1 ._-;=&+,()[]{}'\"\\~!$*|^`<>ü日", "%", "2e", "2F", "%25", "@", "?", "#", "\n", "\t", "\x85"]
)
names = st.lists(pieces | st.characters(codec="utf-8"), min_size=1, max_size=8).map("".join)


def accepted(name: str) -> bool:
    try:
        return check_new_model_name(name) == name
    except InvalidParameter:
        return False


@given(names.filter(accepted))
def test_every_accepted_name_is_found_in_a_uri(name: str) -> None:
    for parse in (_parse_model_uri, parse_model_uri):
        version, latest, alias = (parse(f"models:/{name}{end}") for end in ("/12", "/latest", "@prod"))
        assert (version.name, version.version) == (name, "12")
        assert (latest.name, latest.stage) == (name, None)
        assert (alias.name, alias.alias) == (name, "prod")
    check_no_way_up(f"models:/{name}/12")


@pytest.mark.parametrize(
    "name", ["a@b", "a?b", "a#b", "a\nb", "a\rb", "a\tb", "\ta", "a\n", "a\x00b", "a\u2028b", "a%2Fb", "%2e%2e"]
)
def test_what_no_uri_can_hold_is_refused_and_named(name: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        check_new_model_name(name)
    assert refused.value.message.startswith(f"Invalid model name {name!r}.")
    assert check_model_name(name) == name, "a model that has the name already can be asked for"


@pytest.mark.parametrize("name", ["95% right", "a;b", "a+b", "a&b=c", "a b", "üñ日", "a\\b", "👩‍🔬"])
def test_what_a_uri_can_hold_is_a_name(name: str) -> None:
    assert check_new_model_name(name) == name
