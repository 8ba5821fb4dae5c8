"""runs/{run_id}/branches of the native API: attempts, rewinds and forks of a run, and what they cut off."""

from typing import Annotated, Any

from starlette.responses import Response

from runfold_projections.series.branch_overview import MOST_FORKS, BranchOverview, read_branch_overview
from runfold_projections.series.visible_points import BranchChoice as Which
from runfold_schemas.positions.topics import Topic
from runfold_server.core.entity_errors import no_run
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.messages import AnyText, Message, Rule
from runfold_server.http.operation import RawCall, RawOperation, TimeTravel
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.responses import json_answer, with_moment
from runfold_server.http.services import Services
from runfold_server.openapi_schemas.common import (
    INT64,
    JSON,
    MS,
    NULLABLE_INT,
    NULLABLE_TEXT,
    POSITION,
    POSITIONS,
    TEXT,
    having,
    listed,
)
from runfold_server.reads.reader import Consistency
from runfold_server.reads.scopes import of_run

from .query_parameters import STRONG, ConsistencyName, next_page

_MOST = 10_000
Json = dict[str, Any]


def which(given: object) -> Which:
    """What to show of a run, as a request says it: `effective`, `all`, or the number of a branch.

    InvalidParameter for anything else.
    """
    if given in ("effective", "all"):
        return given
    branch = int(given) if isinstance(given, str) and given.isascii() and given.isdecimal() else given
    if isinstance(branch, int) and not isinstance(branch, bool) and 0 <= branch < 2**31:
        return branch
    raise InvalidParameter(f"Parameter 'branches' is effective, all or a branch's number; got {str(given)[:40]!r}.")


class BranchesOfRun(Message, frozen=True):
    """runs/{run_id}/branches."""

    run_id: AnyText
    limit: Annotated[int, Rule(bits=32, least=0, most=_MOST)] = 1000
    offset: Annotated[int, Rule(bits=32, least=0)] = 0
    consistency: ConsistencyName = STRONG


async def _branches(services: Services, call: RawCall[BranchesOfRun]) -> Response:
    run_id, limit, offset = call.request.run_id, call.request.limit, call.request.offset
    as_of = await services.reads.moments.of_request(call.http)
    shown = await services.reads.reader.read(
        of_run(run_id, Topic.METRICS, Topic.RUNS),
        lambda connection: read_branch_overview(connection, run_id, limit + 1, offset, as_of),
        as_of=as_of,
        consistency=Consistency(call.request.consistency),
    )
    found = shown.value
    if found is None:
        raise no_run(run_id, as_of)
    partition = next(
        (where for where in shown.positions if where in of_run(run_id, Topic.METRICS)(shown.positions)), None
    )
    more = next_page(len(found.branches), limit, offset)
    answer = _encode_overview(run_id, found, limit, str(partition)) | more | {"positions": shown.positions_json()}
    return with_moment(await json_answer(answer), as_of)


def _encode_overview(run_id: str, found: BranchOverview, limit: int, partition: str) -> Json:
    return {
        "run_id": run_id,
        "branch": found.newest,
        "attempts": [
            {
                **{name: value for name, value in row.items() if name != "first_offset"},
                "position": f"{partition}:{row['first_offset']}",
            }
            for row in found.attempts
        ],
        "cuts": found.cuts,
        "branches": found.branches[:limit],
        "forked_from": found.forked_from,
        "forks": found.forks,
    }


_FORK = having({"run_id": TEXT, "branch": INT64, "step": INT64})
_ATTEMPT = having(
    {
        "attempt": {"type": "string", "description": "The launcher's id of it; empty for writers that name none."},
        "ordinal": INT64,
        "branch": {**INT64, "description": "The branch that it opened."},
        "position": {**POSITION, "description": "Where it appears first: topic:partition:offset."},
        "world_size": NULLABLE_INT,
        "start_step": NULLABLE_INT,
        "started_ms": {**NULLABLE_INT, "description": f"{MS['description']} By the broker's clock."},
    }
)
_CUT = having(
    {
        "branch": {**INT64, "description": "Its number; a rewind opens the branch of that number."},
        "kind": {"enum": ["rewind", "start"]},
        "attempt": NULLABLE_TEXT,
        "rank": {**NULLABLE_INT, "description": "The rank that it holds for; null: all."},
        "step": {**INT64, "description": "The last step that is kept."},
        "event_id": TEXT,
    }
)
_LOGGED = having(
    {
        "attempt": TEXT,
        "branch": INT64,
        "rank": NULLABLE_INT,
        "first_step": INT64,
        "last_step": INT64,
        "points": {**INT64, "description": "As they were logged; the same point twice is counted twice."},
        "cut_off_after": {**NULLABLE_INT, "description": "The last step that is effective; null: all are."},
    }
)
_ANSWER = having(
    {
        "run_id": TEXT,
        "branch": {**INT64, "description": "The newest number."},
        "attempts": listed(_ATTEMPT),
        "cuts": listed(_CUT),
        "branches": {
            **listed(_LOGGED),
            "description": "What was logged, by branch and rank; `limit` and `offset` are of this.",
        },
        "forked_from": {"anyOf": [_FORK, {"type": "null"}]},
        "forks": {**listed(_FORK), "description": f"Runs that were forked from this one, at most {MOST_FORKS}."},
        "positions": POSITIONS,
    },
    {"next_offset": INT64},
)
OPERATIONS = (
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/runs/{{run_id}}/branches",
        BranchesOfRun,
        _branches,
        "A run's attempts, rewinds and declared starts, up to which step each branch is effective for each rank, "
        "and forks. Strong unless asked otherwise.",
        {200: (JSON, _ANSWER)},
        time_travel=TimeTravel.AS_OF,
        errors=(400, 404, 503),
    ),
)
