"""The generations of the projections, and how far those are that are being built."""

from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from runfold_projections.generations.inventory import GenerationInfo, inventory
from runfold_server.http.messages import NoFields
from runfold_server.http.operation import RawCall, RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.responses import json_response
from runfold_server.http.services import Services
from runfold_server.openapi_schemas.common import INT64, JSON, NULLABLE_INT, NULLABLE_TEXT, TEXT, having, listed


async def _generations(services: Services, _: RawCall[NoFields]) -> Response:
    async with services.reads.database.connection() as connection:
        entries = await inventory(connection)
    live = {entry.generation.projection: entry for entry in entries if entry.generation.state == "live"}
    now = datetime.now(UTC)
    return json_response({"generations": [_shown(entry, live, now) for entry in entries]})


def _shown(entry: GenerationInfo, live: dict[Any, GenerationInfo], now: datetime) -> dict[str, Any]:
    """With how far it is: up to its bound, or to where the live one stands. The speed is that since it was begun."""
    generation, model = entry.generation, live.get(entry.generation.projection)
    folded = sum(entry.checkpoints.values())
    total = folded
    if generation.until is not None and generation.state == "past":
        total = sum(generation.until)
    elif model is not None:
        total = max(folded, sum(model.checkpoints.values()))
    seconds = (now - entry.created_at).total_seconds()
    rate = folded / seconds if generation.state in ("building", "past") and folded < total and seconds > 0 else 0.0
    return entry.as_json() | {
        "folded": folded,
        "total": total,
        "events_per_second": round(rate),
        "seconds_left": round((total - folded) / rate) if rate else None,
    }


_GENERATION = having(
    {
        "projection": TEXT,
        "number": INT64,
        "state": TEXT,
        "layout": INT64,
        "snapshot": NULLABLE_TEXT,
        "vector": TEXT,
        "bytes": INT64,
        "created_at": TEXT,
        "switched_at": NULLABLE_TEXT,
        "folded": INT64,
        "total": INT64,
        "events_per_second": INT64,
        "seconds_left": NULLABLE_INT,
    }
)
OPERATIONS = (
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/generations",
        NoFields,
        _generations,
        "Built copies of the read models: live ones, those that a rebuild builds, with its progress, those to go "
        "back to, and snapshots.",
        {200: (JSON, having({"generations": listed(_GENERATION)}))},
        errors=(503,),
    ),
)
