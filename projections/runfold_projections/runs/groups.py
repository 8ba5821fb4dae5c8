"""Groups of runs by their params and tags: a chart shows each group as one line."""

from collections.abc import Collection, Mapping, Sequence

from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.positions.vector import Vector

from .as_of import run_at

Group = tuple[tuple[str, str | None], ...]
"""Names (`params.lr`, `tags.team`), each with the value that all runs of the group have; None: they have none."""

_VALUES = """
SELECT run_id, 'params.' || key AS name, value FROM run_param
WHERE run_id = ANY ($1::text[]) AND ($2::text[] IS NULL OR 'params.' || key = ANY ($2))
UNION ALL
SELECT run_id, 'tags.' || key, value FROM run_tag WHERE run_id = ANY ($1::text[]) AND 'tags.' || key = ANY ($2)
"""


async def groups_of(
    connection: Connection,
    run_ids: Sequence[str],
    by: Sequence[str] | None,
    excepted: Collection[str] = (),
    as_of: Vector | None = None,
) -> dict[str, Group]:
    """Return the group of each run, now or at a moment: by the values of these names, or, where `by` is None, of all
    params but the excepted ones.

    A name without the prefix `params.` or `tags.` is a param's.
    """
    names = None if by is None else [_full(name) for name in by]
    runs = [run_id for run_id in run_ids if storable(run_id)]
    asked = None if names is None else [name for name in names if storable(name)]
    values: dict[str, dict[str, str]] = {run_id: {} for run_id in run_ids}
    if as_of is not None:
        for run_id in runs:
            values[run_id] = await _values_at(connection, run_id, asked, as_of)
    else:
        for row in await connection.fetch(_VALUES, runs, asked):
            values[row["run_id"]][row["name"]] = row["value"]
    if names is None:
        names = _all_but(values, {_full(name) for name in excepted})
    return {run_id: tuple((name, own.get(name)) for name in names) for run_id, own in values.items()}


async def _values_at(connection: Connection, run_id: str, asked: Sequence[str] | None, as_of: Vector) -> dict[str, str]:
    run = await run_at(connection, run_id, as_of)
    if run is None:
        return {}
    found = {f"params.{key}": value for key, value in run.params.items()}
    if asked is None:
        return found
    found |= {f"tags.{key}": value for key, value in run.tags.items()}
    return {name: found[name] for name in asked if name in found}


def _full(name: str) -> str:
    return name if name.startswith(("params.", "tags.")) else f"params.{name}"


def _all_but(values: Mapping[str, Mapping[str, str]], excepted: Collection[str]) -> list[str]:
    return sorted({name for own in values.values() for name in own} - set(excepted))
