"""The envelope: what is known of an event besides its content, carried as CloudEvents headers.

CloudEvents 1.0, Kafka protocol binding, binary mode: attributes are `ce_*` headers, the data is the record's value.
Attributes beyond the specification's are extensions, all simple strings.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from runfold_schemas.errors import BadEvent

RULES_VERSION = 1
"""Version of the decision rules that this release writes."""

SPEC_VERSION = b"1.0"
CONTENT_TYPE = b"application/avro"
_SPEC = ("ce_specversion", SPEC_VERSION)
SOURCE_PREFIX = "/writers/"
MAX_HEADER_BYTES = 1024
MAX_HEADERS = 64
MAX_SEQUENCE = 2**62
MAX_RANK = 2**31 - 1

Headers = list[tuple[str, bytes]]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Writer:
    """Who appended: one process of a job, or an API process. A new process is a new writer."""

    id: str
    node: str = ""
    rank: int | None = None
    attempt: str = ""


# Not frozen: a frozen one takes eight times as long to make, and a fold makes one per event.
@dataclass(slots=True, unsafe_hash=True)
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
        kind, common, origin = _written(self.type, self.writer, self.workspace, self.actor, self.rules)
        out: Headers = [
            _SPEC,
            ("ce_id", self.event_id.encode()),
            *kind,
            ("ce_time", format_time(self.time_ms).encode()),
            *common,
            ("ce_sequence", b"%d" % self.sequence),
            *origin,
        ]
        if self.correlation_id or self.causation_id or self.key_id or self.traceparent:
            links = (
                ("ce_correlationid", self.correlation_id),
                ("ce_causationid", self.causation_id),
                ("ce_keyid", self.key_id),
                ("ce_traceparent", self.traceparent),
            )
            out += _checked((name, value.encode()) for name, value in links if value)
        _checked(out[1:2])
        return out


@lru_cache(maxsize=4096)
def _written(
    event_type: str, writer: Writer, workspace: str, actor: str, rules: int
) -> tuple[Headers, Headers, Headers]:
    """Headers that most events of a writer share: those before the time, before the sequence, and behind it."""
    origin = [("ce_rules", b"%d" % rules)]
    if writer.rank is not None:
        origin.append(("ce_rank", b"%d" % writer.rank))
    origin += [
        (name, value.encode()) for name, value in (("ce_node", writer.node), ("ce_attempt", writer.attempt)) if value
    ]
    kind = [("ce_type", event_type.encode()), ("ce_source", (SOURCE_PREFIX + writer.id).encode())]
    common = [("content-type", CONTENT_TYPE), ("ce_workspace", workspace.encode()), ("ce_actor", actor.encode())]
    return _checked(kind), _checked(common), _checked(origin)


def _checked(headers: Iterable[tuple[str, bytes]]) -> Headers:
    found = list(headers)
    for name, value in found:
        if len(value) > MAX_HEADER_BYTES or b"\x00" in value:
            raise BadEvent(f"header {name}: at most {MAX_HEADER_BYTES} bytes and no NUL character")
    return found


def format_time(time_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    second, fraction = divmod(time_ms, 1000)
    return f"{_text_of(second)}.{fraction:03}Z"


@lru_cache(maxsize=256)
def _text_of(second: int) -> str:
    return (EPOCH + timedelta(seconds=second)).isoformat().removesuffix("+00:00")
