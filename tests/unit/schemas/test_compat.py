"""The gate: schemas only grow, so that every version reads every other."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runfold_schemas.codec import catalog as catalog_module
from runfold_schemas.codec.catalog import Catalog, Released, released_catalog
from runfold_schemas.codec.compat import check, incompatibilities, main
from runfold_schemas.positions.topics import Topic

FOLDER = Path(catalog_module.__file__).parents[1] / "avsc"
A = {"name": "a", "type": "string"}


def record(*fields: dict[str, Any], name: str = "R") -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "n", "fields": list(fields)}


def a(kind: Any) -> dict[str, Any]:
    return record({"name": "a", "type": kind})


def enum(*symbols: str, name: str = "E", **more: Any) -> dict[str, Any]:
    return a({"type": "enum", "name": name, "symbols": list(symbols), **more})


def fixed(size: int, name: str = "F") -> dict[str, Any]:
    return a({"type": "fixed", "name": name, "size": size})


def array_of(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def map_of(values: Any) -> dict[str, Any]:
    return {"type": "map", "values": values}


def versions(*texts: dict[str, Any]) -> Catalog:
    return Catalog(
        Released(i, "n.R", i, i, frozenset({Topic.RUNS}), json.dumps(text)) for i, text in enumerate(texts, 1)
    )


B = {"name": "b", "type": ["null", "string"], "default": None}
COMPATIBLE = {
    "nothing changed": (record(A), record(A)),
    "a field with a default added": (record(A), record(A, B)),
    "a field with a default removed": (record(A, B), record(A)),
    "fields in another order": (record(A, B), record(B, A)),
    "another doc": (record(A), {**record({**A, "doc": "new"}), "doc": "new"}),
    "a nested field with a default added": (a(array_of(record(A, name="N"))), a(array_of(record(A, B, name="N")))),
    "string and bytes": (a("string"), a("bytes")),
    "a primitive written as an object": (a("string"), a({"type": "string"})),
    "an enum that grew, with defaults": (enum("x", "y", default="x"), enum("x", "y", "z", default="x")),
}
INCOMPATIBLE = {
    "a field without a default added": (record(A), record(A, {"name": "b", "type": "string"}), "b"),
    "a field without a default removed": (record(A, {"name": "b", "type": "string"}), record(A), "b"),
    "a field renamed": (record(A), record({**A, "name": "c"}), "needs a default"),
    "a field's type changed": (a("string"), a("long"), "string was written, long is read"),
    "a promotion, which works one way only": (a("int"), a("long"), "long was written, int is read"),
    "a promotion to double": (a("float"), a("double"), "double was written, float is read"),
    "a union widened": (a(["null", "string"]), a(["null", "string", "long"]), "no branch"),
    "a field made optional": (a("string"), a(["null", "string"]), "null was written, string is read"),
    "an array's items changed": (a(array_of("string")), a(array_of("long")), "a[]"),
    "a map's values changed": (a(map_of("string")), a(map_of("long")), "a{}"),
    "a nested field without a default added": (
        a(array_of(record(A, name="N"))),
        a(array_of(record(A, {"name": "b", "type": "long"}, name="N"))),
        "a[].b",
    ),
    "the record renamed": (record(A), record(A, name="S"), "renamed"),
    "a nested record renamed": (a(record(A, name="N")), a(record(A, name="M")), "renamed"),
    "an enum that grew, without a default": (enum("x"), enum("x", "y"), "symbols ['y']"),
    "an enum renamed": (enum("x"), enum("x", name="G"), "enum E was renamed to G"),
    "a fixed of another size": (fixed(4), fixed(8), "size"),
    "a fixed renamed": (fixed(4), fixed(4, name="G"), "fixed F was renamed to G"),
}


@pytest.mark.parametrize("case", COMPATIBLE)
def test_a_change_that_every_reader_survives_passes(case: str) -> None:
    assert check(versions(*COMPATIBLE[case])) == []


@pytest.mark.parametrize("case", INCOMPATIBLE)
@pytest.mark.parametrize("turned", [False, True], ids=["forth", "back"])
def test_a_change_that_some_reader_does_not_survive_is_refused(case: str, turned: bool) -> None:
    older, newer, named = INCOMPATIBLE[case]
    problems = check(versions(newer, older) if turned else versions(older, newer))
    assert problems
    if not turned:
        assert named in " ".join(problems)


def test_the_check_is_transitive() -> None:
    b_long = {"name": "b", "type": "long", "default": 0}
    problems = check(versions(record(A, B), record(A), record(A, b_long)))
    assert problems
    assert all("v1 reading v3" in problem or "v3 reading v1" in problem for problem in problems)


def test_reading_is_not_symmetric() -> None:
    assert incompatibilities(a("long"), a("int")) == []
    assert incompatibilities(a("int"), a("long")) == ["a: long was written, int is read"]


def test_the_released_schemas_are_compatible() -> None:
    assert check(released_catalog()) == []


def add_version(folder: Path, change: dict[str, Any]) -> Path:
    """A copy of the release with a second version of TagsSet that has one more field."""
    text = json.loads((folder / "runfold.runs.TagsSet" / "v1.avsc").read_text())
    text["fields"].append(change)
    new = json.dumps(text)
    (folder / "runfold.runs.TagsSet" / "v2.avsc").write_text(new)
    entries = json.loads((folder / "released.json").read_text())
    (first,) = [entry for entry in entries if entry["subject"] == "runfold.runs.TagsSet"]
    entries.append({**first, "id": 900, "version": 2, "level": 2, "sha256": hashlib.sha256(new.encode()).hexdigest()})
    (folder / "released.json").write_text(json.dumps(entries))
    return folder


def test_the_gate_passes_a_folder_that_grew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = add_version(Path(shutil.copytree(FOLDER, tmp_path / "avsc")), B)
    assert main([str(folder)]) == 0
    assert f"{len(released_catalog().by_id) + 1} released schemas, 0 incompatibilities" in capsys.readouterr().out


def test_the_gate_fails_on_an_incompatible_or_inconsistent_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = add_version(Path(shutil.copytree(FOLDER, tmp_path / "avsc")), {"name": "b", "type": "string"})
    assert main([str(folder)]) == 1
    assert "runfold.runs.TagsSet: v2 reading v1: b: a field" in capsys.readouterr().out
    (folder / "runfold.runs.TagsSet" / "v1.avsc").unlink()
    assert main([str(folder)]) == 1
    assert "its file is not there" in capsys.readouterr().out


@pytest.mark.parametrize(("spoilt", "code"), [(False, 0), (True, 1)])
def test_the_module_is_a_command_with_an_exit_code(tmp_path: Path, spoilt: bool, code: int) -> None:
    command = [sys.executable, "-m", "runfold_schemas.codec.compat"]
    if spoilt:
        command.append(
            str(add_version(Path(shutil.copytree(FOLDER, tmp_path / "avsc")), {"name": "b", "type": "string"}))
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
