"""Media types of files are MLflow's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.mime_type_utils import _guess_mime_type

from runfold_server.artifacts.serving import media_type

names = st.lists(
    st.sampled_from(["MLmodel", "mlproject", "py", "txt", ".", "..", "tar", "gz", "x", " ", "html"]), min_size=1
)


@given(names.map("".join).filter(lambda name: name.strip(".") != ""))
def test_media_types_are_mlflows(name: str) -> None:
    assert media_type(name) == _guess_mime_type(name)


@pytest.mark.parametrize("name", ["MLmodel", "mlproject", "MLproject"])
def test_the_files_of_mlflow_itself_are_text(name: str) -> None:
    assert media_type(name) == "text/plain"
