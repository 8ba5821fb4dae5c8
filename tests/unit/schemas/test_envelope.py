"""The envelope survives its headers, and a malformed header is named."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_schemas.codec.envelope import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_RANK,
    MAX_SEQUENCE,
    Envelope,
    Writer,
    format_time,
)
from runfold_schemas.codec.headers import parse_any, parse_headers, parse_time
from runfold_schemas.errors import BadRecord, Reason
from tests.support.histories.schema_strategies import quick

optional = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
required = optional.filter(bool)
YEARS_1_TO_9999 = st.integers(-62_135_596_800_000, 253_402_300_799_999)
envelopes = st.builds(
    Envelope,
    event_id=st.uuids().map(str),
    type=required,
    time_ms=YEARS_1_TO_9999,
    writer=st.builds(Writer, required, optional, st.none() | st.integers(0, MAX_RANK), optional),
    sequence=st.integers(0, MAX_SEQUENCE),
    workspace=required,
    actor=required,
    rules=st.integers(0, 2**31 - 1),
    correlation_id=optional,
    causation_id=optional,
    key_id=optional,
    traceparent=optional,
)
PLAIN = Envelope("0197f0c2-a6b0-7d1e-8c3f-5a9b2d4e6f80", "runfold.runs.TagsSet", 1_700_000_000_123, Writer("w"), 7)


@quick
@given(envelopes)
def test_an_envelope_survives_its_headers(envelope: Envelope) -> None:
    assert parse_headers(envelope.headers()) == envelope


@quick
@given(envelopes, st.permutations(range(10)))
def test_the_order_of_headers_means_nothing(envelope: Envelope, order: list[int]) -> None:
    headers = envelope.headers()
    shuffled = [headers[i] for i in order] + headers[10:]
    assert parse_headers(shuffled) == envelope


VALUES: list[bytes | None] = [
    None,
    b"",
    b"-1",
    b"7",
    b"\x00",
    b"\xff",
    b"1" * 19,
    b"1" * 1025,
    b"/writers/",
    b"/writers/\x00",
    b"1970-01-01",
]


@quick
@given(
    envelopes,
    st.lists(st.tuples(st.integers(0, 16), st.sampled_from(VALUES)), max_size=2),
    st.lists(st.tuples(st.sampled_from(["ce_id", "ce_rank", "ce_node", "b3"]), st.sampled_from(VALUES)), max_size=1),
)
def test_the_usual_headers_are_read_as_any_others_are_broken_ones_included(
    envelope: Envelope, changed: list[tuple[int, bytes | None]], added: list[tuple[str, bytes | None]]
) -> None:
    headers: list[Any] = [*envelope.headers()]
    for place, value in changed:
        if place < len(headers):
            headers[place] = (headers[place][0], value)
    headers += added

    def outcome(parse: Any) -> object:
        try:
            return parse(headers)
        except BadRecord as error:
            return error.reason, str(error)

    assert outcome(parse_headers) == outcome(parse_any)


def test_optional_headers_are_left_out_when_empty() -> None:
    assert [name for name, _ in PLAIN.headers()] == [
        "ce_specversion",
        "ce_id",
        "ce_type",
        "ce_source",
        "ce_time",
        "content-type",
        "ce_workspace",
        "ce_actor",
        "ce_sequence",
        "ce_rules",
    ]


def test_unknown_headers_are_ignored() -> None:
    foreign = [("ce_comexampleextension", b"x"), ("b3", b"\xff\xfe"), ("b3", b"again"), ("", b"")]
    assert parse_headers(PLAIN.headers() + foreign) == PLAIN


MALFORMED: list[tuple[str, list[bytes | None]]] = [
    ("ce_specversion", [b"0.3", b"", None]),
    ("ce_id", [b"", None, b"17", b"0197f0c2-a6b0-7d1e-8c3f-5a9b2d4e6f8g", b"+197f0c2a6b07d1e8c3f5a9b2d4e6f80"]),
    ("ce_id", [b"0197f0c2a6b07d1e8c3f_5a9b2d4e6f8", b"{0197f0c2-a6b0-7d1e-8c3f-5a9b2d4e6f80}", "٣".encode() * 32]),
    ("ce_type", [b"", None]),
    ("ce_source", [b"", b"/writers/", b"w", b"/writer/w", None]),
    ("ce_time", [b"", b"yesterday", b"2024-01-01", b"2024-01-01T00:00:00", b"2024-13-01T00:00:00Z", b"1700000000"]),
    ("ce_workspace", [b"", None]),
    ("ce_actor", [b"", None]),
    ("ce_sequence", [b"", b"-1", b"1.5", b"x", b" 1", b"1_0", str(MAX_SEQUENCE + 1).encode(), b"9" * 500]),
    ("ce_sequence", ["٣".encode(), "²".encode()]),
    ("ce_rules", [b"", b"-1", b"one", str(2**31).encode()]),
    ("ce_rank", [b"", b"-1", b"x", str(MAX_RANK + 1).encode()]),
    ("ce_node", [b"\xff", b"a\x00b", b"a" * (MAX_HEADER_BYTES + 1)]),
    ("ce_anything", [b"\xff", b"a\x00b", b"a" * (MAX_HEADER_BYTES + 1)]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in MALFORMED for value in values])
def test_a_malformed_header_is_named_in_the_error(name: str, value: bytes | None) -> None:
    headers: dict[str, Any] = {**dict(PLAIN.headers()), name: value}
    with pytest.raises(BadRecord, match=name) as caught:
        parse_headers(list(headers.items()))
    assert caught.value.reason is Reason.ENVELOPE


@pytest.mark.parametrize(
    "name",
    [
        "ce_specversion",
        "ce_id",
        "ce_type",
        "ce_source",
        "ce_time",
        "ce_workspace",
        "ce_actor",
        "ce_sequence",
        "ce_rules",
    ],
)
def test_a_missing_or_repeated_required_header_is_named_in_the_error(name: str) -> None:
    without = [header for header in PLAIN.headers() if header[0] != name]
    with pytest.raises(BadRecord, match=name):
        parse_headers(without)
    with pytest.raises(BadRecord, match=f"{name} stands twice"):
        parse_headers([*PLAIN.headers(), (name, dict(PLAIN.headers())[name])])


def test_too_many_headers_are_refused() -> None:
    room = MAX_HEADERS - len(PLAIN.headers())
    assert parse_headers(PLAIN.headers() + [("x", b"")] * room) == PLAIN
    with pytest.raises(BadRecord, match="more than 64 headers"):
        parse_headers(PLAIN.headers() + [("x", b"")] * (room + 1))


@quick
@given(YEARS_1_TO_9999)
def test_times_round_trip_to_the_millisecond(time_ms: int) -> None:
    assert parse_time(format_time(time_ms)) == time_ms


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.5+01:00", 500),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("2023-11-14T22:13:20.123456789Z", 1_700_000_000_123),
    ],
)
def test_times_of_other_zones_and_precisions_are_read(text: str, time_ms: int) -> None:
    assert parse_time(text) == time_ms


def test_event_ids_are_normalised() -> None:
    headers = {**dict(PLAIN.headers()), "ce_id": PLAIN.event_id.upper().encode()}
    assert parse_headers(list(headers.items())).event_id == PLAIN.event_id
    headers["ce_id"] = PLAIN.event_id.replace("-", "").encode()
    assert parse_headers(list(headers.items())).event_id == PLAIN.event_id
