"""From an ASGI request to a handler and back: bodies bounded, errors in one shape, every request measured."""

import re
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
import structlog
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runfold_schemas.positions.vector import Vector
from runfold_server.core.errors import ApiError, Internal, InvalidParameter, NotImplementedYet, TooLarge
from runfold_server.core.storage_errors import as_api_error
from runfold_server.reads import moments
from runfold_server.writes.writes import Origin
from runfold_storage.errors import StorageError

from .operation import Call, Operation, RawOperation
from .path_matching import Match, Paths
from .request_fields import Args, check_content_type, parse_json, parse_query, read_json
from .services import Services

NOT_FOUND_PAGE = (
    "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>The requested URL was not found "
    "on the server. If you entered the URL manually please check your spelling and try again.</p>\n"
)
_NOT_ALLOWED_PAGE = (
    "<!doctype html>\n<html lang=en>\n<title>405 Method Not Allowed</title>\n<h1>Method Not Allowed</h1>\n"
    "<p>The method is not allowed for the requested URL.</p>\n"
)
_log = structlog.get_logger(__name__)
Answer = Callable[[], Awaitable[Response]]


async def answered(services: Services, route: str, request: Request, answer: Answer) -> Response:
    """Run an answer; errors become MLflow's JSON, faults of ours are logged. Measures the request under its route."""
    began = time.perf_counter()
    with services.metrics.in_flight():
        response = await _guarded(route, request, answer)
    services.metrics.request(route, request.method, response.status_code, time.perf_counter() - began)
    return response


async def _guarded(route: str, request: Request, answer: Answer) -> Response:
    try:
        return await answer()
    except ApiError as error:
        return _refused(error, route, request)
    except StorageError as error:
        return _refused(as_api_error(error), route, request)
    except ValidationError as error:
        return error_response(InvalidParameter(_first_problem(error)))
    except ClientDisconnect:
        return Response(status_code=499)
    except Exception as error:
        _log.exception("request_fault", route=route, method=request.method, error=f"{type(error).__name__}: {error}")
        return error_response(Internal("An internal error happened; the server's log has the details."))


def _refused(error: ApiError, route: str, request: Request) -> Response:
    if error.status >= 500 and not isinstance(error, NotImplementedYet):
        _log.warning("request_failed", route=route, method=request.method, status=error.status, error=error.message)
    return error_response(error)


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"Invalid value for parameter '{'.'.join(str(part) for part in first['loc'])}' supplied: {first['msg']}"


def error_response(error: ApiError) -> Response:
    """The error as MLflow answers it."""
    return Response(error.body(), error.status, error.headers(), "application/json")


def json_response(value: Any, status: int = 200) -> Response:
    """JSON as MLflow's, though without its indentation."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def read_body(request: Request, most: int) -> bytes:
    """The body; TooLarge as soon as more than `most` bytes came or are announced."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise TooLarge(f"The request body has {announced} bytes; at most {most} are taken.")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLarge(f"The request body is larger than {most} bytes.")
        parts.append(part)
    return b"".join(parts)


def raw_route(services: Callable[[], Services], operation: RawOperation) -> Route:
    """The route of a raw operation; `services` gives them once the application has started."""

    async def endpoint(request: Request) -> Response:
        now = services()
        if not operation.guarded:
            return await operation.handler(now, request)
        return await answered(now, operation.path, request, lambda: _answered_raw(now, operation, request))

    route = Route(operation.path, endpoint, methods=[operation.method])
    # A path may hold a line break, percent-encoded: Starlette's pattern ends at one, or leaves the last one out.
    route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
    return route


async def _answered_raw(services: Services, operation: RawOperation, request: Request) -> Response:
    if operation.from_past and moments.given(request):
        async with services.reads.snapshots.asked(services.reads.moments, request) as past:
            return saying(await operation.handler(services.in_snapshot(past), request), past.vector)
    if not operation.past:
        _refuse_past(request, operation.method, operation.path)
    return await operation.handler(services, request)


def saying(response: Response, vector: Vector | None) -> Response:
    """The answer, with the moment that it tells of, if that is one of the past."""
    if vector is not None:
        response.headers[moments.HEADER] = moments.said(vector)
    return response


def _refuse_past(request: Request, method: str, path: str) -> None:
    if moments.given(request):
        why = "it changes the present" if method not in ("GET", "HEAD") else "it tells of the present only"
        raise InvalidParameter(f"{method} {path} can't be asked about the past ('{moments.PARAMETER}'): {why}.")


class MlflowRoutes:
    """ASGI application of MLflow's REST below its prefix; knows a route's methods and its unserved neighbours."""

    def __init__(
        self, services: Callable[[], Services], prefix: str, operations: Iterable[Operation], planned: Mapping[str, str]
    ) -> None:
        self._services = services
        self._prefix = prefix
        self._planned = planned
        self._paths = Paths(operations)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = scope["path"].removeprefix(scope.get("root_path", "")).strip("/")
        services = self._services()
        match = self._paths.find(path)
        response = await answered(
            services,
            f"{self._prefix}/{match.path if match else '…'}",
            request,
            lambda: self._answer(services, request, path, match),
        )
        await response(scope, receive, send)

    async def _answer(self, services: Services, request: Request, path: str, match: Match | None) -> Response:
        if match is None:
            what = next((what for start, what in self._planned.items() if path.startswith(start)), None)
            if what is not None:
                raise NotImplementedYet(
                    f"{what} are not served by this release of Runfold; they come with a later one."
                )
            return Response(NOT_FOUND_PAGE, 404, media_type="text/html")
        operation = match.methods.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            return Response(_NOT_ALLOWED_PAGE, 405, {"allow": ", ".join(sorted(match.methods))}, "text/html")
        if operation.from_past and moments.given(request):
            args = await _arguments(services, request, operation, match.placed)
            async with services.reads.snapshots.asked(services.reads.moments, request) as past:
                answer = await operation.handler(services.in_snapshot(past), Call(args, Origin.of(request.headers.get)))
                return saying(json_response(answer), past.vector)
        if not operation.past:
            _refuse_past(request, operation.method, path)
        args = await _arguments(services, request, operation, match.placed)
        vector = await services.reads.moments.of(request)
        answer = await operation.handler(services, Call(args, Origin.of(request.headers.get), vector))
        return saying(json_response(answer), vector)


async def _arguments(services: Services, request: Request, operation: Operation, placed: Mapping[str, str]) -> Args:
    """What the request holds. What stands in the path counts before what the query or the body says under the same name."""
    query = request.scope.get("query_string", b"")
    if request.method in ("GET", "HEAD") and query:
        pairs = urllib.parse.parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        return parse_query(operation.fields, [*placed.items(), *pairs])
    body = await read_body(request, services.config.max_body_bytes)
    if request.method in ("GET", "HEAD", "DELETE") and not body:
        return parse_json(operation.fields, placed)
    content_type = Headers(scope=request.scope).get("content-type")
    if operation.quick is not None and (args := operation.quick(body)) is not None:
        check_content_type(content_type)
        return args
    said = read_json(body, content_type)
    if operation.past or operation.from_past:
        moments.refuse_in_body(said)
    return parse_json(operation.fields, {**said, **placed})
