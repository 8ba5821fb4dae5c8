"""Which keys a run has: by prefix and pattern, paged, each with its latest value and extremes."""

import base64
import binascii
from typing import Annotated, Any

from starlette.responses import Response

from runfold_projections.postgres.connection import Connection
from runfold_projections.series.keys import MOST_PATTERN, KeysOfRun, KeySummary, KeysWanted, keys_of_run
from runfold_projections.series.summaries_as_of import keys_at
from runfold_schemas.positions.topics import Topic
from runfold_server.core.entity_errors import no_run
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import RawCall, RawOperation, TimeTravel
from runfold_server.http.responses import json_response, with_moment
from runfold_server.http.services import Services
from runfold_server.native.query_parameters import STRONG, ConsistencyName
from runfold_server.openapi_schemas.common import INT64, JSON, MS, POSITIONS, TEXT, TOKEN, having, listed
from runfold_server.reads.reader import Consistency, of_run, of_runs, of_topics

from .json_numbers import NATIVE_NUMBER, NULLABLE_NATIVE_NUMBER, number

MOST_KEYS = 10_000
_PATH = "/api/runfold/v1/runs/{run_id}/metrics"


class KeysQuery(Message, frozen=True):
    """runs/{run_id}/metrics."""

    run_id: str
    prefix: str = ""
    regex: str | None = None
    limit: Annotated[int, Rule(bits=32, least=1, most=MOST_KEYS)] = 1_000
    page_token: str = ""
    consistency: ConsistencyName = STRONG


async def _keys(services: Services, call: RawCall[KeysQuery]) -> Response:
    request = call.request
    run_id, limit, after = request.run_id, request.limit, _read_token(request.page_token)
    as_of = await services.reads.moments.of(call.http)
    wanted = KeysWanted(request.prefix, request.regex, after, limit + 1)

    async def read(connection: Connection) -> KeysOfRun | None:
        if as_of is None:
            return await keys_of_run(connection, run_id, wanted)
        found = await keys_at(connection, run_id, wanted, as_of)
        return None if found is None else KeysOfRun(found)

    reader = services.reads.reader if request.regex is None else services.reads.pattern_reader
    shown = await reader.read(
        Consistency(request.consistency),
        of_run(run_id, Topic.METRICS, Topic.RUNS) if as_of is None else of_topics(Topic.METRICS, Topic.RUNS),
        read,
        lambda found: of_runs([] if found is None else found.ancestors, Topic.METRICS, Topic.RUNS),
        as_of=as_of,
    )
    if shown.value is None:
        raise no_run(run_id, as_of)
    keys = shown.value.keys
    page = keys[:limit]
    answer: dict[str, Any] = {"metrics": [_summary(one) for one in page], "positions": shown.said()}
    if len(keys) > limit:
        answer["next_page_token"] = _make_token(page[-1].key)
    return with_moment(json_response(answer), as_of)


def _summary(one: KeySummary) -> dict[str, Any]:
    return {
        "key": one.key,
        "last": number(one.value),
        "step": one.step,
        "time": one.time_ms,
        "min": None if one.least is None else number(one.least),
        "max": None if one.most is None else number(one.most),
    }


def _make_token(key: str) -> str:
    # A key is never taken away, so the page after it is the same page however many keys have come since.
    return base64.urlsafe_b64encode(key.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token, b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidParameter("Parameter 'page_token' is the `next_page_token` of an answer before.") from None


OPERATIONS = (
    RawOperation(
        "GET",
        _PATH,
        KeysQuery,
        _keys,
        "Keys of a run's metrics in the order of their code points, each with its latest value and its extremes. `regex` is one of "
        f"Postgres's, of at most {MOST_PATTERN} characters, found anywhere in the key; one that is none, or takes too long, is refused.",
        {
            200: (
                JSON,
                having(
                    {
                        "metrics": listed(
                            having(
                                {
                                    "key": TEXT,
                                    "last": NATIVE_NUMBER,
                                    "step": INT64,
                                    "time": MS,
                                    "min": NULLABLE_NATIVE_NUMBER,
                                    "max": NULLABLE_NATIVE_NUMBER,
                                }
                            )
                        ),
                        "positions": POSITIONS,
                    },
                    {"next_page_token": TOKEN},
                ),
            )
        },
        time_travel=TimeTravel.AS_OF,
        errors=(400, 404, 503),
    ),
)
