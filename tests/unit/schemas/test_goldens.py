"""Golden records: what the bytes of a released version mean never changes."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runfold_schemas.codec import wire
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.headers import parse_headers
from runfold_schemas.events.all_events import as_json
from tests.support.histories.schema_strategies import GOLDEN, goldens

HINT = "run tests/golden/write_goldens.py and commit what it adds"


@pytest.fixture
def writer() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("write_goldens", GOLDEN.parent / "write_goldens.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize(
    "name", [f"{schema.subject}.v{schema.version}" for schema in released_catalog().by_id.values()]
)
def test_every_released_version_has_a_golden_record(name: str) -> None:
    assert (GOLDEN / f"{name}.json").exists(), HINT


@pytest.mark.parametrize("golden", goldens(), ids=lambda golden: f"{golden['subject']}.v{golden['version']}")
def test_a_golden_record_means_what_it_always_meant(golden: dict[str, Any]) -> None:
    value = bytes.fromhex(golden["value"])
    schema = released_catalog().get(wire.schema_id_of(value))
    assert (schema.schema_id, schema.subject, schema.version) == (
        golden["schema_id"],
        golden["subject"],
        golden["version"],
    )
    assert as_json(wire.decode(value)) == golden["event"]
    headers = [(name, text.encode()) for name, text in golden["headers"]]
    assert asdict(parse_headers(headers)) == golden["envelope"]


def test_a_golden_file_is_named_by_its_content() -> None:
    names = [path.stem for path in sorted(GOLDEN.glob("*.json"))]
    assert names == [f"{golden['subject']}.v{golden['version']}" for golden in goldens()]


def test_the_script_only_adds(writer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "FOLDER", tmp_path)
    kept = tmp_path / "runfold.runs.TagsSet.v1.json"
    kept.write_text("kept")
    assert writer.main() == 0
    assert kept.read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in GOLDEN.glob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert writer.main() == 0
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
