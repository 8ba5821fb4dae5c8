"""The logged models of an import, a batch at a time.

One that others made is left as it is, and what differs is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from runfold_projections.experiments.queries import Experiment
from runfold_projections.operations.outcomes import read_rejections
from runfold_projections.postgres.connection import Pool
from runfold_projections.postgres.read_transaction import read_transaction
from runfold_projections.transfer.models import WholeModel, whole_models
from runfold_stack.config.fold_progress import until_folded

from .appending import Appender
from .events import OUR_STORE, Made
from .model_events import model_facts

_COMPARED = (
    "experiment",
    "name",
    "model_type",
    "source_run_id",
    "status",
    "lifecycle_stage",
    "created_ms",
    "updated_ms",
)


@dataclass(slots=True)
class Brought:
    """What became of some models.

    `imported` counts those of this folder, also those that an earlier import of it had brought.
    """

    imported: int = 0
    existed: int = 0
    conflicts: list[str] = field(default_factory=list)


async def bring_models(
    export_id: str,
    rows: Sequence[Mapping[str, Any]],
    experiments: Mapping[str, Experiment],
    appender: Appender,
    pool: Pool,
    patience: float,
) -> Brought:
    """Create these models, or go on with those that an earlier import of this folder created; wait until they are
    folded.
    """
    brought = Brought()
    async with read_transaction(pool) as connection:
        there = {one.model_id: one for one in await whole_models(connection, [row["model_id"] for row in rows])}
    todo: list[tuple[str, list[Made]]] = []
    for row in rows:
        model_id, experiment = row["model_id"], experiments.get(row["experiment"])
        if experiment is None:
            missing = f"its experiment {row['experiment']!r} could not be made"
            brought.conflicts.append(f"logged model {model_id}: {missing}")
            continue
        facts, found = model_facts(export_id, row, experiment, appender.level), there.get(model_id)
        if found is None or found.created_by == facts[0].event_id:
            todo.append((model_id, facts))
            continue
        differences = _differences(row, found)
        brought.conflicts += [f"logged model {model_id} is there already: {text}" for text in differences]
        brought.existed += not differences
    if not todo:
        return brought
    made = [one for _, facts in todo for one in facts]
    positions = await appender.append([one.record for one in made])
    await until_folded(pool, appender.ends, patience)
    asked = [(position, one.event_id) for position, one in zip(positions, made, strict=True)]
    async with pool.acquire() as connection:
        outcomes = iter(await read_rejections(connection, asked))
    for model_id, facts in todo:
        refused = [found.message for found in [next(outcomes) for _ in facts] if found is not None]
        brought.conflicts += [f"logged model {model_id}: {message}" for message in refused]
        brought.imported += not refused
    return brought


def _differences(row: Mapping[str, Any], found: WholeModel) -> list[str]:
    """What is otherwise there than in the folder, in words."""
    there = asdict(found)
    texts = [
        f"{name} is {there[name]!r} there, {row[name]!r} in the export"
        for name in _COMPARED
        if there[name] != row[name]
    ]
    for kind in ("params", "tags"):
        ours, theirs = dict(row[kind]), there[kind]
        texts += [
            f"{kind[:-1]} {key!r} is {theirs.get(key)!r} there, {ours.get(key)!r} in the export"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]
    # Addresses in an installation's own store differ by the experiment's number.
    if row["artifact_uri"] != found.artifact_uri and not found.artifact_uri.startswith(OUR_STORE):
        texts.append(f"artifact_uri is {found.artifact_uri!r} there, {row['artifact_uri']!r} in the export")
    return texts
