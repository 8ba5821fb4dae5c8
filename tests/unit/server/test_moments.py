"""Moments as requests name them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import InvalidParameter
from runfold_server.reads.moments import Moments, parse_moment, vector_text

RUNS = Partition(Topic.RUNS, 0)
METRICS = Partition(Topic.METRICS, 0)
DAY = 86_400_000
MARCH = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 1000


class Log:
    """The ends of a log with two partitions, and what it says of a time."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def now(self) -> Mapping[Partition, int]:
        return {RUNS: 10, METRICS: 20}

    async def at(self, time_ms: int) -> Mapping[Partition, int]:
        self.asked.append(time_ms)
        return {RUNS: 3, METRICS: 4}


def moments(log: Any, now: int = MARCH + DAY) -> Moments:
    return Moments(log, lambda: now)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-03-01", MARCH),
        ("20260301", MARCH),
        ("2026-03-01T00:00:00Z", MARCH),
        ("2026-03-01T01:00:00+01:00", MARCH),
        (" 2026-03-01 00:00:00.007 ", MARCH + 7),
        ("2026-03-01T01:00:00 01:00", MARCH),
        ("2026-03-01 01:00:00 0100", MARCH),
        ("2026-03-01 01:00", MARCH + 3_600_000),
        (str(MARCH), MARCH),
    ],
)
def test_a_time_is_iso_or_milliseconds_and_utc_unless_a_zone_is_named(text: str, ms: int) -> None:
    assert parse_moment(text) == ms


@given(st.integers(min_value=10**9, max_value=253_402_300_799_999))
@settings(max_examples=200)
def test_a_time_written_in_iso_is_the_same_moment_as_its_milliseconds(ms: int) -> None:
    whole = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    assert parse_moment(whole.isoformat()) == ms == parse_moment(str(ms))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01",
        "-5",
        "12",
        "1e12",
        "runs:3",
        "runs:0:-1",
        "rnus:0:1",
        "٣٣٣٣٣٣٣٣٣٣٣٣٣",
        "1969-01-01",
        "9" * 70_000,
    ],
)
def test_what_is_no_moment_is_refused_with_the_right_forms(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"topic:partition:offset|2026-03-01|the topic is one of"):
        parse_moment(text)


async def test_a_time_is_resolved_by_the_log() -> None:
    log = Log()
    assert await moments(log).resolve("2026-03-01") == {RUNS: 3, METRICS: 4}
    assert log.asked == [MARCH]


async def test_a_time_to_come_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"clock, 2026-02-28T23:59:59\.999"):
        await moments(Log(), MARCH - 1).resolve("2026-03-01")
    assert await moments(Log(), MARCH).resolve("2026-03-01")


async def test_the_name_of_a_past_is_the_moment_of_its_vector_and_a_time_goes_before_a_name() -> None:
    asked: list[str] = []

    async def named(name: str) -> Mapping[Partition, int] | None:
        asked.append(name)
        return {RUNS: 7} if name == "q1" else None

    moments = Moments(Log(), lambda: MARCH + DAY, named)  # type: ignore[arg-type]
    assert await moments.resolve("q1") == {RUNS: 7, METRICS: 0}
    assert await moments.resolve("20260301") == {RUNS: 3, METRICS: 4}
    with pytest.raises(InvalidParameter, match="or the name of a snapshot"):
        await moments.resolve("q2")
    with pytest.raises(InvalidParameter, match="or the name of a snapshot"):
        await moments.resolve("Q1")
    assert asked == ["q1", "q2"]


async def test_a_vector_counts_partitions_that_it_does_not_name_as_empty() -> None:
    vector = await moments(Log()).resolve("runs:0:10")
    assert vector == {RUNS: 10, METRICS: 0}
    assert vector_text(vector) == "runs:0:10"
    assert await moments(Log()).resolve(vector_text({RUNS: 0})) == {RUNS: 0, METRICS: 0}


@pytest.mark.parametrize(("text", "why"), [("runs:0:11", "ends at runs:0:10"), ("runs:1:0", "no partition runs:1")])
async def test_a_vector_beyond_the_log_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidParameter, match=why):
        await moments(Log()).resolve(text)
