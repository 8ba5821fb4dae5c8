"""Answers and errors in the form of Confluent's schema registry.

Codes are those of `io.confluent.kafka.schemaregistry.rest` (exceptions/Errors.java); a registry in mode READONLY
refuses changes with 42205, as this one does.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.responses import Response

from runfold_server.core.errors import TooLarge, Unavailable
from runfold_server.http.operation import RawCall, RawHandler
from runfold_server.http.services import Services

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
Handler = Callable[[Services, RawCall[Any]], Awaitable[Any]]


class RegistryError(Exception):
    """An error in the protocol's form: the status of the answer is the first three digits of the code, unless said
    otherwise.
    """

    def __init__(self, code: int, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.status = status or (code if code < 1000 else code // 100)


def no_subject(subject: str) -> RegistryError:
    """There is no such subject."""
    return RegistryError(40401, f"Subject '{subject}' not found.")


def no_version(version: int) -> RegistryError:
    """The subject has no such version."""
    return RegistryError(40402, f"Version {version} not found.")


def no_schema(schema_id: int | None = None) -> RegistryError:
    """There is no such schema, or none of this id."""
    return RegistryError(40403, "Schema not found" if schema_id is None else f"Schema {schema_id} not found")


def answering(handler: Handler) -> RawHandler[Any]:
    """A handler whose answers and errors have the protocol's form."""

    async def answer(services: Services, call: RawCall[Any]) -> Response:
        try:
            return _response(await handler(services, call))
        except RegistryError as error:
            return _response({"error_code": error.code, "message": error.message}, error.status)
        except TooLarge as error:
            return _response({"error_code": 42209, "message": error.message}, 422)
        except Unavailable as error:
            response = _response({"error_code": 50001, "message": error.message}, error.status)
            response.headers.update(error.headers())
            return response

    return answer


def _response(value: Any, status: int = 200) -> Response:
    body = value.text.encode() if isinstance(value, Text) else msgspec.json.encode(value)
    return Response(body, status, media_type=MEDIA_TYPE)


class Text:
    """A schema by itself: it is JSON already."""

    def __init__(self, text: str) -> None:
        self.text = text
