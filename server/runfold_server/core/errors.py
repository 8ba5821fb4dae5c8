"""Errors that a client sees, in MLflow's shape.

ApiError
├── InvalidParameter   the client can correct the request (400)
│   ├── BadBody        the body can't be read at all (400)
│   └── TooLarge       the body exceeds the server's limit (413)
├── PermissionDenied   the request comes from a foreign web page (403)
├── TooMany            the client has reached its limit of open answers (429); retry after `retry_after` seconds
├── NotFound           the request names something that does not exist (404)
├── NoSuchSnapshot         a snapshot of the requested moment must be created first (409)
├── AlreadyExists      the name is in use (400, as MLflow's)
├── NotImplementedYet  this release does not serve the route (501: MLflow's client does not retry it)
├── Unavailable        Kafka, Postgres or a worker is down or behind (503); retry after `retry_after` seconds
└── Internal           a fault of this program (500)
    └── DamagedBytes   the stored bytes of a file differ from its digest in the log (500)

Status numbers are those of `mlflow.exceptions`, sqlstate and error_class those of `mlflow.error_classification`
(3.17.2).
"""

from enum import Enum

import msgspec

MOST_MESSAGE = 16_000
"""Characters of an error's message."""


class ErrorCode(Enum):
    """The error codes of MLflow that this server uses, each with its status, error class and sqlstate."""

    INVALID_PARAMETER_VALUE = ("INVALID_PARAMETER_VALUE", 400, "INVALID_PARAMETER_VALUE", "KAM00")
    BAD_REQUEST = ("BAD_REQUEST", 400, "INVALID_PARAMETER_VALUE", "KAM00")
    PERMISSION_DENIED = ("PERMISSION_DENIED", 403, "PERMISSION_DENIED", "KAM00")
    RESOURCE_DOES_NOT_EXIST = ("RESOURCE_DOES_NOT_EXIST", 404, "RESOURCE_NOT_FOUND", "KAM00")
    RESOURCE_ALREADY_EXISTS = ("RESOURCE_ALREADY_EXISTS", 400, "RESOURCE_ALREADY_EXISTS", "KAM00")
    RESOURCE_CONFLICT = ("RESOURCE_CONFLICT", 409, "", "")
    INTERNAL_ERROR = ("INTERNAL_ERROR", 500, "CLIENT_INTERNAL_ERROR", "XXM00")
    REQUEST_LIMIT_EXCEEDED = ("REQUEST_LIMIT_EXCEEDED", 429, "", "")
    NOT_IMPLEMENTED = ("NOT_IMPLEMENTED", 501, "", "")
    TEMPORARILY_UNAVAILABLE = ("TEMPORARILY_UNAVAILABLE", 503, "CLIENT_INTERNAL_ERROR", "XXM00")

    def __init__(self, wire: str, status: int, error_class: str, sqlstate: str) -> None:
        self.wire, self.status, self.error_class, self.sqlstate = wire, status, error_class, sqlstate


class ApiError(Exception):
    """Root of the errors that clients see. `message` is part of the contract where MLflow has one."""

    code = ErrorCode.INTERNAL_ERROR

    def __init__(self, message: str) -> None:
        # MLflow's messages repeat what the client sent, which may be long.
        message = message if len(message) <= MOST_MESSAGE else f"{message[:MOST_MESSAGE]}…"
        super().__init__(message)
        self.message = message

    @property
    def status(self) -> int:
        return self.code.status

    def body(self) -> bytes:
        """Return the JSON body."""
        fields = {"error_code": self.code.wire, "message": self.message}
        if self.code.sqlstate:
            fields |= {"sqlstate": self.code.sqlstate, "error_class": self.code.error_class}
        return msgspec.json.encode(fields)

    def headers(self) -> dict[str, str]:
        """Return headers to send beside the content type."""
        return {}


class InvalidParameter(ApiError):
    """The client can correct a value; the message names it."""

    code = ErrorCode.INVALID_PARAMETER_VALUE


class BadBody(InvalidParameter):
    """The body is not a JSON object in UTF-8, or has another content type."""

    code = ErrorCode.BAD_REQUEST


class TooLarge(InvalidParameter):
    """The body exceeds the limit."""

    code = ErrorCode.BAD_REQUEST

    @property
    def status(self) -> int:
        return 413


class PermissionDenied(ApiError):
    """The client is not allowed to do this; the message names the setting that would allow it."""

    code = ErrorCode.PERMISSION_DENIED


class NotFound(ApiError):
    """The request names something that does not exist."""

    code = ErrorCode.RESOURCE_DOES_NOT_EXIST


class NoSuchSnapshot(ApiError):
    """No snapshot of the moment exists; the message names the command that creates it."""

    code = ErrorCode.RESOURCE_CONFLICT


class AlreadyExists(ApiError):
    """The name is in use; deleted experiments keep theirs."""

    code = ErrorCode.RESOURCE_ALREADY_EXISTS


class NotImplementedYet(ApiError):
    """This release does not serve the route."""

    code = ErrorCode.NOT_IMPLEMENTED


class Unavailable(ApiError):
    """A service is down or behind; the message names it, and whether a write may still take effect.

    `retry_after` is in seconds.
    """

    code = ErrorCode.TEMPORARILY_UNAVAILABLE

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        return {"retry-after": str(max(1, round(self.retry_after)))}


class TooMany(Unavailable):
    """The client has reached its limit of open answers."""

    code = ErrorCode.REQUEST_LIMIT_EXCEEDED


class Internal(ApiError):
    """A fault of this program; its log has the details."""


class DamagedBytes(Internal):
    """The stored bytes of a file are missing or differ from its digest in the log."""
