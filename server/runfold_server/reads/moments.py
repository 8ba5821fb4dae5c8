"""The moment that a read is about: a time or a position vector, resolved once to the vector that the answer returns.

A time is the broker's (`message.timestamp.type = LogAppendTime`). Everything appended up to it counts, the
millisecond itself included.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from starlette.requests import Request

from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.vector import Vector, parse_vector, write_vector
from runfold_server.core.errors import InvalidParameter
from runfold_server.freshness.end_offsets import EndOffsets

PARAMETER = "as_of"
HEADER = "x-runfold-as-of"
"""Names the moment in a request, as the parameter does, and the vector in an answer."""
MAX_CHARS = 64 * 1024
"""Longest position vector: one of 4,096 partitions fits."""
_LARGEST_MS = 253_402_300_799_999
"""The end of the year 9999, the last of ISO dates."""
_FORMS = (
    "give a date or time (2026-03-01, 2026-03-01T12:30:00+01:00; UTC if no zone is named), milliseconds since the "
    "epoch, "
    "a position vector (runs:3:18240,metrics:3:99), or the name of a snapshot"
)
_SNAPSHOT_NAME = re.compile(r"[a-z0-9_]{1,17}")
_PLUS_LOST = re.compile(r"(.*\d\d:\d\d.*) (\d\d:?\d\d)")
"""A time with a zone east of Greenwich whose plus sign was not percent-encoded: in a query it means a space."""


def requested_moment(request: Request) -> str:
    """The moment that a request names by its parameter or its header; empty for the present.

    InvalidParameter for two moments, and for an empty one: an empty variable in a script does not mean now.
    """
    given = [*request.query_params.getlist(PARAMETER), *request.headers.getlist(HEADER)]
    if not given:
        return ""
    if len(set(given)) > 1:
        raise InvalidParameter(f"Parameter '{PARAMETER}' and header '{HEADER}' name two moments; give one of them.")
    if not given[0].strip():
        raise InvalidParameter(
            f"Parameter '{PARAMETER}' names no moment: {_FORMS}. Without the parameter, the answer shows the present."
        )
    return given[0]


def reject_in_body(body: Mapping[str, object]) -> None:
    """InvalidParameter if the body of a read names a moment: ignored, as unknown fields are, the answer would show
    the present.
    """
    if PARAMETER in body:
        raise InvalidParameter(
            f"'{PARAMETER}' belongs into the query, or into the header '{HEADER}', not into the body."
        )


def parse_moment(text: str, parameter: str = PARAMETER) -> int | dict[Partition, int]:
    """Read a time in ms since the epoch, or a vector. InvalidParameter names the parameter and the right forms."""
    text = text.strip()
    if len(text) <= MAX_CHARS:
        if ":" in text and text[:1].isalpha():
            try:
                return parse_vector(text)
            except ValueError as error:
                raise InvalidParameter(f"Invalid value for parameter '{parameter}' supplied: {error}.") from None
        if text.isascii() and text.isdecimal() and len(text) > len("20260301") and int(text) <= _LARGEST_MS:
            return int(text)
        ms = _iso(text)
        if ms is not None:
            return ms
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    raise InvalidParameter(f"Invalid value {shown!r} for parameter '{parameter}' supplied: {_FORMS}.")


def _iso(text: str) -> int | None:
    try:
        lost = _PLUS_LOST.fullmatch(text)
        moment = datetime.fromisoformat(f"{lost[1]}+{lost[2]}" if lost else text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        # Whole numbers: a float of seconds would lose the millisecond.
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    ms = (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
    return ms if ms >= 0 else None


def now_ms() -> int:
    """This machine's clock, in ms since the epoch."""
    return time.time_ns() // 1_000_000


class Moments:
    """Resolves moments against the log. `vector_named` returns the vector of the snapshot of a name, None if there is
    none.
    """

    def __init__(
        self,
        ends: EndOffsets,
        clock: Callable[[], int] = now_ms,
        vector_named: Callable[[str], Awaitable[Vector | None]] | None = None,
    ) -> None:
        self._ends, self._clock, self._vector_named = ends, clock, vector_named

    async def of_request(self, request: Request) -> Vector | None:
        """The moment of a request; None for the present. Raises as `resolve`."""
        text = requested_moment(request)
        return await self.resolve(text) if text else None

    async def resolve(self, text: str, parameter: str = PARAMETER) -> Vector:
        """The end offset of each partition that has read models: a read may see what is before it.

        InvalidParameter for a text of another form, for a future time, and for a vector with a partition that the log
        does not have or an offset beyond its end. A partition that a vector does not name counts as empty.
        Unavailable if Kafka is away.
        """
        moment = await self._read(text, parameter)
        if isinstance(moment, int):
            now = self._clock()
            if moment > now:
                raise InvalidParameter(
                    f"Invalid value {text!r} for parameter '{parameter}' supplied: it is ahead of this server's clock, "
                    f"{_shown(now)}; the future can't be asked about."
                )
            return await self._ends.at(moment)
        return _checked(moment, await self._ends.now(), parameter)

    async def _read(self, text: str, parameter: str) -> int | Vector:
        try:
            return parse_moment(text, parameter)
        except InvalidParameter:
            if self._vector_named is None or not _SNAPSHOT_NAME.fullmatch(text):
                raise
            vector = await self._vector_named(text)
            if vector is None:
                raise
            return vector


def _shown(ms: int) -> str:
    whole = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return whole.isoformat(timespec="milliseconds")


def _checked(vector: Vector, ends: Mapping[Partition, int], parameter: str) -> dict[Partition, int]:
    for where, offset in vector.items():
        if where not in ends:
            raise InvalidParameter(
                f"Invalid value for parameter '{parameter}' supplied: the log has no partition {where}, or it has "
                "no read models."
            )
        if offset > ends[where]:
            raise InvalidParameter(
                f"Invalid value for parameter '{parameter}' supplied: {where}:{offset} is ahead of the log, which "
                "ends at "
                f"{where}:{ends[where]}."
            )
    return {where: vector.get(where, 0) for where in ends}


def vector_text(vector: Vector) -> str:
    """Return the vector as answers show it, without partitions that count no records."""
    return write_vector({where: end for where, end in vector.items() if end} or dict(sorted(vector.items())[:1]))
