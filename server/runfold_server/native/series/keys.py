"""Which keys a run has: by prefix and pattern, paged, each with its latest value and extremes."""

from typing import Annotated, Any

from starlette.responses import Response

from runfold_projections.postgres.connection import Connection
from runfold_projections.series.keys import MOST_PATTERN, KeyFilter, KeySummary, RunKeys, keys_of_run
from runfold_projections.series.summaries_as_of import keys_at
from runfold_schemas.positions.topics import Topic
from runfold_server.core.entity_errors import no_run
from runfold_server.http.messages import AnyText, Message, Rule
from runfold_server.http.native_page_tokens import decode_page_token, encode_page_token
from runfold_server.http.operation import RawCall, RawOperation, TimeTravel
from runfold_server.http.responses import json_answer, with_moment
from runfold_server.http.services import Services
from runfold_server.native.query_parameters import STRONG, ConsistencyName
from runfold_server.openapi_schemas.common import INT64, JSON, MS, POSITIONS, TEXT, TOKEN, having, listed
from runfold_server.reads.reader import Consistency
from runfold_server.reads.scopes import of_run, of_runs, of_topics

from .json_numbers import NATIVE_NUMBER, NULLABLE_NATIVE_NUMBER, number

MOST_KEYS = 10_000
_PATH = "/api/runfold/v1/runs/{run_id}/metrics"


class KeysQuery(Message, frozen=True):
    """runs/{run_id}/metrics."""

    run_id: AnyText
    prefix: str = ""
    regex: str | None = None
    limit: Annotated[int, Rule(bits=32, least=1, most=MOST_KEYS)] = 1_000
    page_token: str = ""
    consistency: ConsistencyName = STRONG


async def _keys(services: Services, call: RawCall[KeysQuery]) -> Response:
    request = call.request
    run_id, limit = request.run_id, request.limit
    after = decode_page_token(request.page_token, str) if request.page_token else ""
    as_of = await services.reads.moments.of_request(call.http)
    wanted = KeyFilter(request.prefix, request.regex, after, limit + 1)

    async def read(connection: Connection) -> RunKeys | None:
        if as_of is None:
            return await keys_of_run(connection, run_id, wanted)
        found = await keys_at(connection, run_id, wanted, as_of)
        return None if found is None else RunKeys(found)

    reader = services.reads.reader if request.regex is None else services.reads.pattern_reader
    shown = await reader.read(
        of_run(run_id, Topic.METRICS, Topic.RUNS) if as_of is None else of_topics(Topic.METRICS, Topic.RUNS),
        read,
        lambda found: of_runs([] if found is None else found.ancestors, Topic.METRICS, Topic.RUNS),
        as_of=as_of,
        consistency=Consistency(request.consistency),
    )
    if shown.value is None:
        raise no_run(run_id, as_of)
    keys = shown.value.keys
    page = keys[:limit]
    answer: dict[str, Any] = {"metrics": [_summary(one) for one in page], "positions": shown.positions_json()}
    if len(keys) > limit:
        # No key is ever removed, so the page after this one stays the same however many keys are added.
        answer["next_page_token"] = encode_page_token(page[-1].key)
    return with_moment(await json_answer(answer), as_of)


def _summary(one: KeySummary) -> dict[str, Any]:
    return {
        "key": one.key,
        "last": number(one.value),
        "step": one.step,
        "time": one.time_ms,
        "min": None if one.least is None else number(one.least),
        "max": None if one.most is None else number(one.most),
    }


OPERATIONS = (
    RawOperation(
        "GET",
        _PATH,
        KeysQuery,
        _keys,
        "Keys of a run's metrics in the order of their code points, each with its latest value and its extremes. "
        "`regex` is one of "
        f"Postgres's, of at most {MOST_PATTERN} characters, found anywhere in the key; one that is none, or takes "
        "too long, is refused.",
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
