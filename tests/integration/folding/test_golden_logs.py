"""Released rules never change: what a golden log meant, it means today, however its batches are cut."""

import itertools
from pathlib import Path

import pytest

from runfold_projections.catalog import rejection_meanings
from runfold_projections.control.migrations import migrate
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw
from runfold_schemas.errors import Reason
from tests.support.histories.golden_log import FOLDER, fold_log, read
from tests.support.services.running import Services

_numbers = itertools.count(1)
LATER = {"model_metric": ("0001", "0002", "0003")}
"""Tables that came after golden logs were written whose records have something for them."""
SPINES_CODES = ("experiment_", "run_", "param_", "tag_")
LOGS = sorted(FOLDER.glob("*.json"))


def _cut(raws: list[Raw], size: int) -> list[list[Raw]]:
    return [raws[at : at + size] for at in range(0, len(raws), size)]


@pytest.mark.parametrize("size", [1, 13, 10_000])
@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
async def test_a_golden_log_is_folded_to_the_same_rows(services: Services, path: Path, size: int) -> None:
    projection, raws, rows = read(path)
    namespace = f"golden_{next(_numbers)}"
    await migrate(services.postgres, namespace)
    found = await fold_log(services.postgres, namespace, projection, _cut(raws, size))
    assert [row for row in found if not path.stem.startswith(LATER.get(row[0], "never"))] == rows


def test_the_golden_logs_hold_every_rejection_and_set_aside_records() -> None:
    rows = [row for path in LOGS for row in read(path)[2]]
    assert {row[6] for row in rows if row[0] == "rejection"} == {code.value for code in rejection_meanings()}
    # A golden log is one partition of one, and no file of megabytes.
    elsewhere = {Reason.WRONG_PARTITION, Reason.TOO_LARGE}
    assert {row[4] for row in rows if row[0] == "set_aside"} == {reason.value for reason in Reason} - elsewhere


def test_the_golden_logs_of_the_spine_hold_every_event_and_rejection_that_it_had() -> None:
    """Written by its own code, as are their rows."""
    of_the_spine = [read(path) for path in LOGS if "-spine" in path.name]
    types = {dict(raw.headers).get("ce_type", b"").decode() for _, raws, _ in of_the_spine for raw in raws}
    released = {schema.subject for schema in released_catalog().up_to(1)}
    assert types >= {subject for subject in released if not subject.startswith("runfold.system.")}
    rejected = {row[6] for *_, rows in of_the_spine for row in rows if row[0] == "rejection"}
    assert rejected == {code.value for code in rejection_meanings() if code.value.startswith(SPINES_CODES)}
