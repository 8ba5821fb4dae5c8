"""Summaries as they lie in the tables: SQL reads the doubles that the fold wrote."""

import math
import struct
from random import Random

from runfold_projections.control.migrations import migrate
from runfold_projections.metrics.summaries import Latest, Summaries, Summary
from runfold_projections.postgres.connection import open_pool
from tests.support.services.running import Services

EDGES = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    math.inf,
    -math.inf,
    math.nan,
    5e-324,
    -5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
)


def doubles(rng: Random, count: int) -> list[float]:
    """Of any bits."""
    return [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(count)]


async def test_sql_reads_every_double_bit_by_bit(services: Services) -> None:
    await migrate(services.postgres, "summaryrows")
    summaries = Summaries()
    values = [*EDGES, *doubles(Random(1), 1500)]
    for n, value in enumerate(values):
        extremes = (None, None) if math.isnan(value) else (value, value)
        summaries.put(f"k{n}", Summary(Latest(value, n, -n, "m" if n == 700 else None), *extremes))
    async with open_pool(services.postgres, "summaryrows", application="test") as pool:
        for number in range(summaries.blocks):
            block = summaries.block(number)
            await pool.execute(
                "INSERT INTO metric_block (run_id, block, keys, numbers, contexts) VALUES ('r', $1, $2, $3, $4)",
                *(number, list(block.keys), block.numbers, block.contexts),
            )
        same = Summaries()
        same.put("x", Summary(Latest(1.5, 7, 8), 1.0, 2.0))
        same.put("y", Summary(Latest(2.5, 7, 8), None, None))
        one = same.block(0)
        assert len(one.numbers) == 8 * 8, "one step and one time for all keys"
        await pool.execute("INSERT INTO metric_block VALUES ('s', 0, $1, $2)", list(one.keys), one.numbers)
        found = {row["key"]: row for row in await pool.fetch("SELECT * FROM metric WHERE run_id = 'r'")}
        shared = [tuple(row) for row in await pool.fetch("SELECT * FROM metric WHERE run_id = 's' ORDER BY key")]
    assert len(found) == len(values)
    for n, value in enumerate(values):
        row = found[f"k{n}"]
        assert _bits(row["value"]) == _bits(value)
        assert _bits(row["min_value"]) == _bits(row["max_value"]) == _bits(None if math.isnan(value) else value)
        assert (row["step"], row["time_ms"], row["model_id"]) == (n, -n, "m" if n == 700 else None)
    assert shared == [
        ("s", "x", 1.5, 7, 8, 1.0, 2.0, None, None, None),
        ("s", "y", 2.5, 7, 8, None, None, None, None, None),
    ]


def _bits(value: float | None) -> str:
    return "none" if value is None else "nan" if math.isnan(value) else value.hex()
