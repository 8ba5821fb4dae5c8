"""Released rules never change: what a golden log meant, it means today, however its batches are cut."""

import itertools
from pathlib import Path

import pytest
from golden_log import FOLDER, fold_log, read
from services import Services

from runfold_projections.folds.decision import RejectionCode
from runfold_projections.migrate import migrate
from runfold_schemas.record import Raw

_numbers = itertools.count(1)
LATER = {"model_metric": ("0001", "0002", "0003")}
"""Tables that came after golden logs were written whose records have something for them."""
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
    assert {row[6] for row in rows if row[0] == "rejection"} == {code.value for code in RejectionCode}
    assert {row[4] for row in rows if row[0] == "set_aside"} >= {
        "framing",
        "envelope",
        "key_mismatch",
        "trailing_bytes",
    }
