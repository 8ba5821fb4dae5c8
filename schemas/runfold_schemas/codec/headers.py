"""From headers to an envelope, with every check: the way that our own writers write them is looked up, any other is
read.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from uuid import UUID

from runfold_schemas.errors import BadRecord, Reason

from .envelope import EPOCH, MAX_HEADER_BYTES, MAX_HEADERS, MAX_RANK, MAX_SEQUENCE, SOURCE_PREFIX, Envelope, Writer

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}")
_SECOND = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
_DOT, _ZULU = b".Z"
_PLAIN_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SOURCE = SOURCE_PREFIX.encode()
_USUAL_HEADERS = 16
_OWN = ("ce_id", "ce_time", "ce_source", "ce_sequence", "ce_rank", "ce_node", "ce_attempt")
"""Headers in which events of a kind differ."""
_PLACEHOLDERS = (
    ("ce_id", b"00000000-0000-0000-0000-000000000000"),
    ("ce_time", b"1970-01-01T00:00:00Z"),
    ("ce_source", _SOURCE + b"w"),
    ("ce_sequence", b"0"),
)


def parse_headers(headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """Read an envelope; BadRecord(ENVELOPE) names the header and what it should be. Unknown headers are ignored."""
    headers = tuple(headers)
    return _parse_usual(headers) or parse_any(headers)


def _parse_usual(headers: Sequence[tuple[str, bytes]]) -> Envelope | None:
    """What `parse_any` gives, in a fraction of the time; None for all that is not as our own writers write it.

    Writers write the same headers in the same order, most of them with the same values: those are looked up, not read.
    """
    names, values = zip(*headers, strict=True) if headers else ((), ())
    layout = _layout(names)
    if layout is None or None in values:
        return None
    event_id, time, source, sequence, rank, node, attempt = layout.own((*values, b""))
    common = _common(layout, layout.common(values))
    writer = _writer_of(source, node, rank if layout.ranked else None, attempt)
    time_ms = _time_of(time)
    if common is None or writer is None or time_ms is None or not _PLAIN_UUID.fullmatch(event_id):
        return None
    if not sequence.isdigit() or len(sequence) > 18:
        return None
    return Envelope(
        event_id.decode(),
        common.type,
        time_ms,
        writer,
        int(sequence),
        common.workspace,
        common.actor,
        common.rules,
        common.correlation_id,
        common.causation_id,
        common.key_id,
        common.traceparent,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where records whose headers have these names, in this order, hold what.

    `own` wants an empty value behind the others, for what is absent.
    """

    own: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
    common: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
    common_names: tuple[str, ...]
    ranked: bool


@lru_cache(maxsize=256)
def _layout(names: tuple[str, ...]) -> _Layout | None:
    places = {name: place for place, name in enumerate(names)}
    common = tuple(name for name in names if name not in _OWN)
    if len(places) != len(names) or len(names) > _USUAL_HEADERS or len(common) < 2:
        return None
    own = itemgetter(*(places.get(name, len(names)) for name in _OWN))
    return _Layout(own, itemgetter(*(places[name] for name in common)), common, "ce_rank" in places)


@lru_cache(maxsize=1024)
def _common(layout: _Layout, values: tuple[bytes, ...]) -> Envelope | None:
    """Headers that all events of a kind share, as an envelope with anything for the others.

    None: let `parse_any` say what is wrong.
    """
    try:
        return parse_any((*zip(layout.common_names, values, strict=True), *_PLACEHOLDERS))
    except BadRecord:
        return None


@lru_cache(maxsize=16_384)
def _writer_of(source: bytes, node: bytes, rank: bytes | None, attempt: bytes) -> Writer | None:
    own = (source, node, attempt)
    if not source.startswith(_SOURCE) or source == _SOURCE or b"\x00" in b"".join(own):
        return None
    if max(map(len, own)) > MAX_HEADER_BYTES or (rank is not None and not (rank.isdigit() and len(rank) <= 9)):
        return None
    try:
        return Writer(
            source[len(_SOURCE) :].decode(), node.decode(), None if rank is None else int(rank), attempt.decode()
        )
    except UnicodeDecodeError:
        return None


def _time_of(text: bytes) -> int | None:
    """`parse_time` of a time in UTC with milliseconds, as `format_time` writes them; None for any other."""
    if len(text) != 24 or text[19] != _DOT or text[23] != _ZULU or not (fraction := text[20:23]).isdigit():
        return None
    second = _second_of(text[:19])
    return None if second is None else second + int(fraction)


@lru_cache(maxsize=1024)
def _second_of(text: bytes) -> int | None:
    try:
        return parse_time(f"{text.decode()}Z") if _SECOND.fullmatch(text) else None
    except BadRecord:
        return None


def parse_any(headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """Parse headers of any writer, Runfold's own or not."""
    found: dict[str, str] = {}
    for count, (name, value) in enumerate(headers):
        if count >= MAX_HEADERS or (value is not None and len(value) > MAX_HEADER_BYTES):
            raise _bad(f"more than {MAX_HEADERS} headers, or header {name!r} longer than {MAX_HEADER_BYTES} bytes")
        if not name.startswith("ce_"):
            continue
        if name in found:
            raise _bad(f"header {name} stands twice")
        try:
            found[name] = (value or b"").decode()
        except UnicodeDecodeError:
            raise _bad(f"header {name} is not UTF-8") from None
        if "\x00" in found[name]:
            raise _bad(f"header {name} holds a NUL character")
    if found.get("ce_specversion") != "1.0":
        raise _bad("header ce_specversion must be 1.0")
    source = _required(found, "ce_source")
    if not source.startswith(SOURCE_PREFIX) or len(source) == len(SOURCE_PREFIX):
        raise _bad(f"header ce_source must be {SOURCE_PREFIX}<writer id>")
    rank = found.get("ce_rank")
    return Envelope(
        event_id=_uuid(_required(found, "ce_id")),
        type=_required(found, "ce_type"),
        time_ms=parse_time(_required(found, "ce_time")),
        writer=_writer(
            source[len(SOURCE_PREFIX) :],
            found.get("ce_node", ""),
            None if rank is None else _number("ce_rank", rank, MAX_RANK),
            found.get("ce_attempt", ""),
        ),
        sequence=_number("ce_sequence", _required(found, "ce_sequence"), MAX_SEQUENCE),
        workspace=_required(found, "ce_workspace"),
        actor=_required(found, "ce_actor"),
        rules=_number("ce_rules", _required(found, "ce_rules"), 2**31 - 1),
        correlation_id=found.get("ce_correlationid", ""),
        causation_id=found.get("ce_causationid", ""),
        key_id=found.get("ce_keyid", ""),
        traceparent=found.get("ce_traceparent", ""),
    )


def parse_time(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time; BadRecord if it is none or has no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _bad(f"header ce_time {text!r} is not an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise _bad(f"header ce_time {text!r} lacks a time zone")
    return (moment - EPOCH) // timedelta(milliseconds=1)


@lru_cache(maxsize=4096)
def _writer(writer_id: str, node: str, rank: int | None, attempt: str) -> Writer:
    return Writer(writer_id, node, rank, attempt)


def _required(found: dict[str, str], name: str) -> str:
    value = found.get(name)
    if not value:
        raise _bad(f"header {name} is missing or empty")
    return value


def _number(name: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > most:
        raise _bad(f"header {name} {text!r} must be a whole number from 0 to {most}")
    return int(text)


def _uuid(text: str) -> str:
    # UUID() alone also takes what int() takes: signs, spaces, underscores, digits of other scripts.
    if not _UUID.fullmatch(text):
        raise _bad(f"header ce_id {text!r} is not a UUID")
    return str(UUID(text))


def _bad(message: str) -> BadRecord:
    return BadRecord(Reason.ENVELOPE, message)
