"""Errors that a caller sees, in MLflow's shape.

ApiError
├── InvalidParameter   the caller can correct the request (400)
│   ├── BadBody        the request's body can't be read at all (400)
│   └── TooLarge       the body is larger than the server takes (413)
├── PermissionDenied   a web page of a stranger asks (403)
├── TooMany            the client has as much open as one may have (429); repeat after `retry_after` seconds
├── NotFound           what the request names does not exist (404)
├── NoSuchSnapshot         read models of the moment that is asked about must be created first (409)
├── AlreadyExists      the name is taken (400, as MLflow's)
├── NotImplementedYet  the route is known, this release does not serve it (501: MLflow's client does not retry it)
├── Unavailable        Kafka, Postgres or a worker is away or behind (503); repeat after `retry_after` seconds
└── Internal           a fault of this program (500)
    └── DamagedBytes   the store's bytes of a file are not those that the log tells of (500)

Status numbers are those of `mlflow.exceptions`, sqlstate and error_class those of `mlflow.error_classification` (3.17.2).
"""

from enum import Enum

import msgspec

MOST_MESSAGE = 16_000
"""Characters of an error's message."""


class ErrorCode(Enum):
    """MLflow's error codes that this server uses. A closed set: code, status, error class, sqlstate."""

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
    """Root of the errors that are answered to callers; `message` is part of the contract where MLflow has one."""

    code = ErrorCode.INTERNAL_ERROR

    def __init__(self, message: str) -> None:
        # MLflow's words hold what the caller sent, however long it was.
        message = message if len(message) <= MOST_MESSAGE else f"{message[:MOST_MESSAGE]}…"
        super().__init__(message)
        self.message = message

    @property
    def status(self) -> int:
        return self.code.status

    def body(self) -> bytes:
        """The JSON body."""
        fields = {"error_code": self.code.wire, "message": self.message}
        if self.code.sqlstate:
            fields |= {"sqlstate": self.code.sqlstate, "error_class": self.code.error_class}
        return msgspec.json.encode(fields)

    def headers(self) -> dict[str, str]:
        """Headers beside the content type."""
        return {}


class InvalidParameter(ApiError):
    """A value that the caller can correct; the message names it."""

    code = ErrorCode.INVALID_PARAMETER_VALUE


class BadBody(InvalidParameter):
    """The body is no JSON object, no UTF-8, or of another content type."""

    code = ErrorCode.BAD_REQUEST


class TooLarge(InvalidParameter):
    """The body is larger than the limit."""

    code = ErrorCode.BAD_REQUEST

    @property
    def status(self) -> int:
        return 413


class PermissionDenied(ApiError):
    """The caller may not ask this; the message names the setting that would allow it."""

    code = ErrorCode.PERMISSION_DENIED


class NotFound(ApiError):
    """What the request names does not exist."""

    code = ErrorCode.RESOURCE_DOES_NOT_EXIST


class NoSuchSnapshot(ApiError):
    """There is no past of the moment; the message names the command that makes it."""

    code = ErrorCode.RESOURCE_CONFLICT


class AlreadyExists(ApiError):
    """The name is taken; deleted experiments keep theirs."""

    code = ErrorCode.RESOURCE_ALREADY_EXISTS


class NotImplementedYet(ApiError):
    """A route of MLflow's that this release does not serve."""

    code = ErrorCode.NOT_IMPLEMENTED


class Unavailable(ApiError):
    """Try again after `retry_after` seconds; the message says what is away or behind, and if a write may still take effect."""

    code = ErrorCode.TEMPORARILY_UNAVAILABLE

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        return {"retry-after": str(max(1, round(self.retry_after)))}


class TooMany(Unavailable):
    """The client has as much open at this server as one client may have."""

    code = ErrorCode.REQUEST_LIMIT_EXCEEDED


class Internal(ApiError):
    """A fault of this program; the log has the details under the same request."""


class DamagedBytes(Internal):
    """The bytes of a file in the store are not those that the log tells of, or are gone."""
