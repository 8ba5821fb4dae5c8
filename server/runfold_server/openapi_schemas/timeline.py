"""JSON schemas of the answers of timelines, `why` and `diff`."""

from collections.abc import Mapping

from .common import INT64, MS, NULLABLE_INT, NULLABLE_TEXT, POSITION, TEXT, TOKEN, Schema, having, listed, ref

_VALUE: Schema = {
    "type": ["string", "number", "boolean", "array", "object", "null"],
    "description": "A text, a number, a boolean, a list or an object; null if it had no value.",
}
_CHANGES = listed(having({"field": TEXT, "from": _VALUE, "to": _VALUE}))
AS_OF: Schema = {**TEXT, "description": "The position vector up to which the answer goes."}
_WRITER = having({"id": TEXT, "node": TEXT, "rank": NULLABLE_INT, "attempt": TEXT, "sequence": INT64})
_HEAD: Schema = {
    "position": POSITION,
    "broker_ms": {**MS, "description": "Milliseconds since the epoch, by the broker's clock."},
    "event_ms": {**MS, "description": "Milliseconds since the epoch, by the writer's clock."},
    "event_id": TEXT,
    "type": {**TEXT, "description": "The Avro record's full name."},
    "actor": TEXT,
    "writer": _WRITER,
    "correlation_id": NULLABLE_TEXT,
    "causation_id": {**NULLABLE_TEXT, "description": "The event that caused this one."},
    "payload": {"type": "object"},
    "outcome": {"enum": ["accepted", "rejected"]},
}
_REJECTED: Schema = {"code": {**TEXT, "description": "Why the fold rejected it."}, "message": TEXT}
_EVENT = having(
    {
        **_HEAD,
        "changes": {**_CHANGES, "description": "Its changes to the entity."},
        "caused": {
            **listed(having({"entity": TEXT, "position": POSITION})),
            "description": "Events that name this one as their cause.",
        },
    },
    _REJECTED,
)
EVENT, SETTING = ref("TimelineEvent"), ref("SettingEvent")
_NAMESAKES = listed(having({"id": TEXT, "as_of": POSITION}))
NAMESAKES: Schema = {
    **_NAMESAKES,
    "description": "Earlier registered models of this name, the latest first, and the last moment at which each had "
    "it. With that as `as_of`, the same request is about the other model.",
}
_LOGGED = having(
    {
        "attempt": TEXT,
        "branch": INT64,
        "rank": NULLABLE_INT,
        "first_position": POSITION,
        "last_position": POSITION,
        "first_step": INT64,
        "last_step": INT64,
        "points": INT64,
    }
)
_EVENTS = having(
    {"events": listed(EVENT), "as_of": AS_OF},
    {
        "next_page_token": TOKEN,
        "logged": {
            **listed(_LOGGED),
            "description": "For a run, on the first page: what it logged to `metrics`, by attempt, branch and rank.",
        },
        "namesakes": NAMESAKES,
    },
)
_SET = having({"from": _VALUE, "to": _VALUE, "event": SETTING})
_WHY = having(
    {
        "field": TEXT,
        "value": _VALUE,
        "set_by": {**_SET, "description": "The event that set its value, or removed the last one."},
        "earlier": {**listed(_SET), "description": "Earlier events that set it, newest first."},
        "as_of": AS_OF,
    },
    {"namesakes": NAMESAKES},
)
_DIFF = having(
    {
        "from": AS_OF,
        "to": AS_OF,
        "changes": listed(
            having(
                {
                    "field": TEXT,
                    "from": _VALUE,
                    "to": _VALUE,
                    "by": {
                        **NULLABLE_TEXT,
                        "description": "The actor; null for a metric, whose points may come from many writers.",
                    },
                    "event": {"anyOf": [SETTING, {"type": "null"}]},
                }
            )
        ),
    }
)

SHAPES: Mapping[str, Schema] = {
    "SettingEvent": having(_HEAD, _REJECTED),
    "TimelineEvent": _EVENT,
    "Timeline": _EVENTS,
    "Why": _WHY,
    "Difference": _DIFF,
}
EVENTS, WHY, DIFF = ref("Timeline"), ref("Why"), ref("Difference")
