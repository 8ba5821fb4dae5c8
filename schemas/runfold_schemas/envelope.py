"""The envelope: what is known of an event besides its content, carried as CloudEvents headers.

CloudEvents 1.0, Kafka protocol binding, binary mode: attributes are `ce_*` headers, the data is the record's value.
Attributes beyond the specification's are extensions, all simple strings.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from .errors import BadEvent, BadRecord, Reason

RULES_VERSION = 1
"""Version of the decision rules that this release writes."""

SPEC_VERSION = b"1.0"
CONTENT_TYPE = b"application/avro"
SOURCE_PREFIX = "/writers/"
MAX_HEADER_BYTES = 1024
MAX_HEADERS = 64
MAX_SEQUENCE = 2**62
MAX_RANK = 2**31 - 1

Headers = list[tuple[str, bytes]]
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}")
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
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Writer:
    """Who appended: one process of a job, or an API process. A new process is a new writer."""

    id: str
    node: str = ""
    rank: int | None = None
    attempt: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Identity, origin and order of one event. Times are ms since the epoch, by the writer's clock."""

    event_id: str
    type: str
    time_ms: int
    writer: Writer
    sequence: int
    workspace: str = "default"
    actor: str = "anonymous"
    rules: int = RULES_VERSION
    correlation_id: str = ""
    causation_id: str = ""
    key_id: str = ""
    traceparent: str = ""

    def headers(self) -> Headers:
        """The Kafka headers that carry this envelope. BadEvent if one is longer than readers take or holds a NUL."""
        out: Headers = [
            ("ce_specversion", SPEC_VERSION),
            ("ce_id", self.event_id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_source", (SOURCE_PREFIX + self.writer.id).encode()),
            ("ce_time", format_time(self.time_ms).encode()),
            ("content-type", CONTENT_TYPE),
            ("ce_workspace", self.workspace.encode()),
            ("ce_actor", self.actor.encode()),
            ("ce_sequence", b"%d" % self.sequence),
            ("ce_rules", b"%d" % self.rules),
        ]
        if self.writer.rank is not None:
            out.append(("ce_rank", b"%d" % self.writer.rank))
        optional = (
            ("ce_node", self.writer.node),
            ("ce_attempt", self.writer.attempt),
            ("ce_correlationid", self.correlation_id),
            ("ce_causationid", self.causation_id),
            ("ce_keyid", self.key_id),
            ("ce_traceparent", self.traceparent),
        )
        out.extend((name, value.encode()) for name, value in optional if value)
        values = [value for _, value in out]
        if max(map(len, values)) <= MAX_HEADER_BYTES and b"\x00" not in b"".join(values):
            return out
        for name, value in out:
            if len(value) > MAX_HEADER_BYTES or b"\x00" in value:
                raise BadEvent(f"header {name}: at most {MAX_HEADER_BYTES} bytes and no NUL character")
        return out


def parse_headers(headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """Read an envelope; BadRecord(ENVELOPE) names the header and what it should be. Unknown headers are ignored."""
    headers = tuple(headers)
    return _parse_usual(headers) or parse_any(headers)


def _parse_usual(headers: Sequence[tuple[str, bytes]]) -> Envelope | None:
    """What `parse_any` gives, in a third of the time; None for all that is not as our own writers write it."""
    rest: dict[str, Any] = dict(headers)
    if len(rest) != len(headers) or len(rest) > _USUAL_HEADERS:
        return None
    ranked = "ce_rank" in rest
    own = event_id, time, source, sequence, rank, node, attempt = [rest.pop(name, b"") for name in _OWN]
    if None in own or max(map(len, own)) > MAX_HEADER_BYTES or b"\x00" in b"".join(own):
        return None
    common = _common(tuple(rest.items()))
    if common is None or not _PLAIN_UUID.fullmatch(event_id) or not source.startswith(_SOURCE) or source == _SOURCE:
        return None
    if not sequence.isdigit() or len(sequence) > 18 or (ranked and not (rank.isdigit() and len(rank) <= 9)):
        return None
    try:
        return Envelope(
            event_id.decode(),
            common.type,
            parse_time(time.decode()),
            _writer(source[len(_SOURCE) :].decode(), node.decode(), int(rank) if ranked else None, attempt.decode()),
            int(sequence),
            common.workspace,
            common.actor,
            common.rules,
            common.correlation_id,
            common.causation_id,
            common.key_id,
            common.traceparent,
        )
    except (UnicodeDecodeError, BadRecord):
        return None


@lru_cache(maxsize=1024)
def _common(rest: tuple[tuple[str, bytes], ...]) -> Envelope | None:
    """Headers that all events of a kind share, as an envelope with anything for the others. None: let `parse_any` say what is wrong."""
    try:
        return parse_any((*rest, *_PLACEHOLDERS))
    except BadRecord:
        return None


def parse_any(headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """`parse_headers`, whoever wrote them."""
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


def format_time(time_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time; BadRecord if it is none or has no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _bad(f"header ce_time {text!r} is not an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise _bad(f"header ce_time {text!r} lacks a time zone")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


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
