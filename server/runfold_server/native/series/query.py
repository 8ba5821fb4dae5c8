"""What a series query asks for: read from JSON, and checked before anything is looked up."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np

from runfold_projections.charts.aggregates import COUNT, STATISTICS, Spread
from runfold_projections.charts.grid import Drawing, XAxis
from runfold_projections.charts.smoothing import MOST_WIDTH, Smoothing
from runfold_projections.series.visible_points import BranchChoice
from runfold_server.core.errors import BadBody, InvalidParameter
from runfold_server.http.large_json import refuse_many
from runfold_server.native.branches import which
from runfold_server.openapi_schemas.common import TEXT, Schema, having, listed
from runfold_server.reads.reader import Consistency

MOST_RUNS, MOST_KEYS, MOST_SERIES, MOST_PX = 500, 500, 2_000, 4_000
MOST_GROUPED_BY, MOST_QUANTILES = 20, 20
_ALONG = "metric:"


class Filter(msgspec.Struct, forbid_unknown_fields=True):
    """Runs that a search of these experiments finds, latest start first."""

    experiment_ids: list[str]
    filter: str = ""
    limit: int = 100


class Matching(msgspec.Struct, forbid_unknown_fields=True):
    """Keys of the runs in which a pattern is found."""

    regex: str


class Smooth(msgspec.Struct, forbid_unknown_fields=True):
    """How lines are smoothed, see `smoothing.Kind`."""

    kind: str
    v: float = 0.0


class Except(msgspec.Struct, forbid_unknown_fields=True):
    """All params but these."""

    names: list[str] = msgspec.field(name="except")


class Ranks(StrEnum):
    """What becomes of a series' ranks: one line of all their points, a line each, or one line that aggregates them."""

    MERGED = "merged"
    EACH = "each"
    AGGREGATE = "aggregate"


_SPREADS = {
    "std": ("mean", "sd", COUNT),
    "stderr": ("mean", "se", COUNT),
    "minmax": ("mean", "min", "max", COUNT),
    "all": STATISTICS,
}


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """The body. `range` are the ends of x, both included; `px` null: no buckets, for aggregates only."""

    runs: list[str] | Filter
    metrics: list[str] | Matching
    x: str = "step"
    range: tuple[float, float] | None = None
    px: int | None = 600
    agg: str = "minmax"
    rank: int | None = None
    ranks: str = "merged"
    group_by: list[str] | Except | None = None
    spread: str = "std"
    quantiles: list[float] = []
    smooth: Smooth | None = None
    clip: tuple[float, float] | None = None
    consistency: str = "strong"
    branches: str | int = "effective"


@dataclass(frozen=True, slots=True)
class SeriesRequest:
    """A query whose words are understood. `along` is the metric that x is, if it is one."""

    query: Query
    x: XAxis
    along: str | None
    shown: Drawing
    ranks: Ranks
    spread: Spread
    smooth: Smoothing
    branches: BranchChoice

    @property
    def grouped(self) -> bool:
        """Whether lines stand for several runs or ranks."""
        return self.query.group_by is not None or self.ranks is Ranks.AGGREGATE


def parse(body: bytes) -> SeriesRequest:
    """BadBody or InvalidParameter, saying what is wrong."""
    refuse_many(body)
    try:
        query = msgspec.json.decode(body, type=Query)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadBody(f"The body is no series query: {error}") from None
    along = query.x.removeprefix(_ALONG) if query.x.startswith(_ALONG) else None
    wanted = SeriesRequest(
        query,
        XAxis.STEP if along is not None else XAxis(_one_of("x", query.x, XAxis, also=" or metric:KEY")),
        along,
        Drawing(_one_of("agg", query.agg, Drawing)),
        Ranks(_one_of("ranks", query.ranks, Ranks)),
        Spread(_SPREADS[_one_of("spread", query.spread, _SPREADS)], tuple(query.quantiles)),
        Smoothing(_one_of("smooth.kind", query.smooth.kind if query.smooth else "off", Smoothing)),
        which(query.branches),
    )
    _one_of("consistency", query.consistency, Consistency)
    if not isinstance(query.runs, Filter):
        query.runs = list(dict.fromkeys(query.runs))
    elif not 1 <= query.runs.limit <= MOST_RUNS:
        raise InvalidParameter(f"Parameter 'runs.limit' is a number from 1 to {MOST_RUNS}; got {query.runs.limit}.")
    if not isinstance(query.metrics, Matching):
        query.metrics = list(dict.fromkeys(query.metrics))
    if not isinstance(query.runs, Filter) and not isinstance(query.metrics, Matching):
        check_counts(query.runs, query.metrics)
    _check_grid(query, wanted)
    _check_statistics(query)
    return wanted


def check_counts(runs: list[str], keys: list[str]) -> None:
    """InvalidParameter if that is more than is answered at once."""
    for name, count, most in (
        ("runs", len(runs), MOST_RUNS),
        ("metrics", len(keys), MOST_KEYS),
        ("series (runs times metrics)", len(runs) * len(keys), MOST_SERIES),
    ):
        if count > most:
            raise InvalidParameter(f"{count} {name} are asked for; at most {most} are answered at once.")


def _one_of(name: str, value: str, known: Any, also: str = "") -> str:
    if value not in list(known):
        raise InvalidParameter(f"Parameter '{name}' is one of {', '.join(known)}{also}; got {value[:100]!r}.")
    return value


def _check_grid(query: Query, wanted: SeriesRequest) -> None:
    if query.px is None and not wanted.grouped:
        raise InvalidParameter(
            "Parameter 'px' may be null for aggregates only; points in full come from series:history."
        )
    if query.px is not None and not 1 <= query.px <= MOST_PX:
        raise InvalidParameter(f"Parameter 'px' is the chart's width, 1 to {MOST_PX}; got {query.px}.")
    if query.range is not None and not (np.isfinite(query.range).all() and query.range[0] <= query.range[1]):
        raise InvalidParameter("Parameter 'range' is two finite numbers, the smaller one first.")
    if query.rank is not None and not -1 <= query.rank < 2**31:
        raise InvalidParameter("Parameter 'rank' is a whole number, -1 for writers that named none.")


def _check_statistics(query: Query) -> None:
    if len(query.quantiles) > MOST_QUANTILES or not all(0 <= one <= 1 for one in query.quantiles):
        raise InvalidParameter(f"Parameter 'quantiles' is at most {MOST_QUANTILES} numbers from 0 to 1.")
    if query.clip is not None and not 0 <= query.clip[0] <= query.clip[1] <= 1:
        raise InvalidParameter("Parameter 'clip' is two quantiles from 0 to 1, the smaller one first.")
    names = query.group_by.names if isinstance(query.group_by, Except) else query.group_by or []
    if len(names) > MOST_GROUPED_BY:
        raise InvalidParameter(f"Parameter 'group_by' has {len(names)} names; at most {MOST_GROUPED_BY} are taken.")
    if query.smooth is not None:
        most = 1.0 if query.smooth.kind == Smoothing.TW_EMA else float(MOST_WIDTH)
        if not 0 <= query.smooth.v <= most:
            raise InvalidParameter(f"Parameter 'smooth.v' is from 0 to {most:g} for {query.smooth.kind!r}.")


BRANCHES: Schema = {
    "anyOf": [{"enum": ["effective", "all"]}, {"type": "integer", "minimum": 0}],
    "description": "The points that no later rewind or start cut off; all; or what was effective when a branch was "
    "the newest.",
}
BODY = having(
    {
        "runs": {
            "anyOf": [
                {**listed(TEXT), "maxItems": MOST_RUNS},
                having(
                    {"experiment_ids": listed(TEXT)},
                    {"filter": TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": MOST_RUNS}},
                ),
            ]
        },
        "metrics": {"anyOf": [{**listed(TEXT), "maxItems": MOST_KEYS}, having({"regex": TEXT})]},
    },
    {
        "x": {"type": "string", "description": "step, wall (ms), relative (s since the run's start), or metric:KEY."},
        "range": {
            "type": ["array", "null"],
            "items": {"type": "number"},
            "minItems": 2,
            "maxItems": 2,
            "description": "Ends of x, both included.",
        },
        "px": {
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": MOST_PX,
            "description": "Width of the chart in pixels; null for an aggregate at every x.",
        },
        "agg": {"enum": [str(shown) for shown in Drawing]},
        "rank": {"type": ["integer", "null"], "description": "This rank alone; -1 for writers that named none."},
        "ranks": {
            "enum": [str(one) for one in Ranks],
            "description": "All ranks' points as one line, a line each, or one line that aggregates them.",
        },
        "group_by": {
            "anyOf": [
                {**listed(TEXT), "maxItems": MOST_GROUPED_BY},
                having({"except": {**listed(TEXT), "maxItems": MOST_GROUPED_BY}}),
                {"type": "null"},
            ],
            "description": "Runs with equal values of these params (or tags.NAME), or of all params but these, are "
            "one line. []: all runs are.",
        },
        "spread": {"enum": list(_SPREADS), "description": "Columns of an aggregate, beside its quantiles."},
        "quantiles": {**listed({"type": "number", "minimum": 0, "maximum": 1}), "maxItems": MOST_QUANTILES},
        "smooth": {
            "anyOf": [
                having({"kind": {"enum": [str(kind) for kind in Smoothing]}}, {"v": {"type": "number", "minimum": 0}}),
                {"type": "null"},
            ]
        },
        "clip": {
            "type": ["array", "null"],
            "items": {"type": "number", "minimum": 0, "maximum": 1},
            "minItems": 2,
            "maxItems": 2,
            "description": "Quantiles of all values shown, whose values are answered as `y.clip`.",
        },
        "consistency": {"enum": [str(one) for one in Consistency]},
        "branches": BRANCHES,
    },
)
