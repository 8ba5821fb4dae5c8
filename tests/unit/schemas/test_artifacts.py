"""Where a file of the artifact store belongs, and which paths are taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_schemas.events.artifact_paths import ROOT, check_path, owner_and_path

RUN = "0197f0c2a6b07d1e8c3f5a9b2d4e6f80"


@pytest.mark.parametrize(
    ("path", "owner", "rest"),
    [
        (f"1/{RUN}/artifacts/a/b.txt", RUN, "a/b.txt"),
        (f"1/{RUN}/artifacts", RUN, ""),
        (f"some/where/{RUN}/artifacts/artifacts/x", RUN, "artifacts/x"),
        (f"data/artifacts/{RUN}/artifacts/x", RUN, "x"),
        ("1/models/m-1/artifacts/MLmodel", "1/models/m-1/artifacts", "MLmodel"),
        (f"1/models/{RUN}/artifacts/x", f"1/models/{RUN}/artifacts", "x"),
        ("1/traces/tr-1/artifacts/traces.json", "1/traces/tr-1/artifacts", "traces.json"),
        (f"1/{RUN}/other/x", ROOT, f"1/{RUN}/other/x"),
        (f"{RUN}", ROOT, RUN),
        ("artifacts/x", ROOT, "artifacts/x"),
        ("", ROOT, ""),
    ],
)
def test_a_file_belongs_to_its_run_or_its_folder(path: str, owner: str, rest: str) -> None:
    assert owner_and_path(path) == (owner, rest)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "..", "a/../b", "a/./b", "a//b", "a/", "a\x00b", "a\nb", "a\x7f", "x" * 3000, "\ud800"],
)
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"it holds|it is absolute|too long"):
        check_path(path)


@given(st.lists(st.text("ab.%é ~C:\\", min_size=1, max_size=4), min_size=1, max_size=4).map("/".join))
def test_owner_and_path_lead_back_to_the_file(path: str) -> None:
    try:
        check_path(path)
    except ValueError:
        return
    owner, rest = owner_and_path(f"7/{RUN}/artifacts/{path}")
    assert (owner, rest) == (RUN, path)
    assert owner_and_path(path) == (ROOT, path)
