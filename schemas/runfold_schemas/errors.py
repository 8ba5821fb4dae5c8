"""The root of all of Runfold's errors, and those of the contract.

RunfoldError
└── SchemaError
    ├── BadRecord          the bytes are not an event: the record is set aside
    ├── UndeclaredSchema   the schema id is not known here: `system` says whether that is poison or an upgrade
    ├── BadEvent           a writer asks to encode something the contract forbids
    ├── BadCatalog         the schema files of this release contradict each other
    └── BadKafkaSecurity   settings of how to be let in by Kafka that don't fit each other
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a record was set aside. A closed set: it is stored, counted and documented."""

    FRAMING = "framing"
    UNDECLARED_SCHEMA = "undeclared_schema"
    BODY = "body"
    TRAILING_BYTES = "trailing_bytes"
    TOO_LARGE = "too_large"
    ENVELOPE = "envelope"
    TYPE_NOT_ALLOWED = "type_not_allowed"
    KEY_MISMATCH = "key_mismatch"
    WRONG_PARTITION = "wrong_partition"
    RULES_VERSION = "rules_version"
    BEFORE_GENESIS = "before_genesis"
    ABSURD = "absurd"


MAX_MESSAGE_CHARS = 500
"""Longest message of a BadRecord."""


class RunfoldError(Exception):
    """Root of all errors that Runfold raises on purpose."""


class SchemaError(RunfoldError):
    """Root of the contract's errors."""


class BadRecord(SchemaError):
    """The record can never be folded by this code; `reason` is stored with its position.

    The message is stored too, and quotes the record: so it is cut, and freed of NUL, which Postgres refuses.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message.replace("\x00", "\\0")[:MAX_MESSAGE_CHARS])
        self.reason = reason


class UndeclaredSchema(SchemaError):
    """The schema id is not in this release's catalog."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema id {schema_id} is not known to this release")
        self.schema_id = schema_id


class BadEvent(SchemaError):
    """The event breaks a bound or a rule of the contract; the message names the field and what would be right."""


class BadCatalog(SchemaError):
    """The released schema files are inconsistent; the message names the file."""


class BadKafkaSecurity(SchemaError, ValueError):
    """Settings of how to be let in by Kafka that are wrong, or don't fit each other; the message names them."""
