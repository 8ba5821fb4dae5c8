"""From an ASGI request to a handler and back: bodies are bounded, errors have one shape, every request is measured."""

import re
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runfold_server.core.errors import ApiError, Internal, InvalidParameter, NotImplementedYet
from runfold_server.core.storage_errors import as_api_error
from runfold_server.reads import moments
from runfold_server.writes.writes import WriteOrigin
from runfold_storage.errors import StorageError

from .large_json import BODY_BYTES, beside
from .messages import Message, parse_message, parse_query
from .operation import Call, Operation, RawCall, RawOperation, TimeTravel
from .path_matching import Match, Paths
from .request_body import check_content_type, read_body, read_json
from .responses import (
    NOT_ALLOWED_PAGE,
    NOT_FOUND_PAGE,
    error_response,
    first_problem,
    json_answer,
    with_moment,
)
from .services import Services

_log = structlog.get_logger(__name__)
Answer = Callable[[], Awaitable[Response]]
M = TypeVar("M", bound=Message)


async def respond(services: Services, route: str, request: Request, answer: Answer) -> Response:
    """Return the answer, or its error in MLflow's shape, and measure the request under its route."""
    began = time.perf_counter()
    with services.metrics.in_flight():
        response = await _answer_or_error(route, request, answer)
    services.metrics.request(route, request.method, response.status_code, time.perf_counter() - began)
    return response


async def _answer_or_error(route: str, request: Request, answer: Answer) -> Response:
    try:
        return await answer()
    except ApiError as error:
        return _failed(error, route, request)
    except StorageError as error:
        return _failed(as_api_error(error), route, request)
    except ValidationError as error:
        return error_response(InvalidParameter(first_problem(error)))
    except ClientDisconnect:
        return Response(status_code=499)
    except Exception as error:
        _log.exception("request_fault", route=route, method=request.method, error=f"{type(error).__name__}: {error}")
        return error_response(Internal("An internal error happened; the server's log has the details."))


def _failed(error: ApiError, route: str, request: Request) -> Response:
    if error.status >= 500 and not isinstance(error, NotImplementedYet):
        _log.warning("request_failed", route=route, method=request.method, status=error.status, error=error.message)
    return error_response(error)


def raw_route(services: Callable[[], Services], operation: RawOperation[Any]) -> Route:
    """Return the route of a raw operation; `services` returns them once the application has started."""

    async def endpoint(request: Request) -> Response:
        now = services()
        if not operation.guarded:
            return await operation.handler(now, RawCall(request, operation.request()))
        return await respond(now, operation.path, request, lambda: _answer_raw(now, operation, request))

    route = Route(operation.path, endpoint, methods=[operation.method])
    # A percent-encoded path may hold a line break, at which Starlette's pattern would end.
    route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
    return route


async def _answer_raw(services: Services, operation: RawOperation[Any], request: Request) -> Response:
    if operation.time_travel is TimeTravel.NONE:
        _reject_moment(request, operation.path)
    pairs = [*request.path_params.items(), *request.query_params.multi_items()]
    call = RawCall(request, parse_query(operation.request, pairs))
    if operation.time_travel is TimeTravel.SNAPSHOT and moments.requested_moment(request):
        async with services.reads.snapshots.open_for(services.reads.moments, request) as snapshot:
            return with_moment(await operation.handler(services.in_snapshot(snapshot), call), snapshot.vector)
    return await operation.handler(services, call)


def _reject_moment(request: Request, path: str) -> None:
    if moments.requested_moment(request):
        why = "it changes the present" if request.method not in ("GET", "HEAD") else "it shows the present only"
        raise InvalidParameter(f"{request.method} {path} can't be asked about the past ('{moments.PARAMETER}'): {why}.")


class MlflowRoutes:
    """ASGI application of MLflow's REST API below its prefix, with the methods of each path and the routes to come."""

    def __init__(
        self,
        services: Callable[[], Services],
        prefix: str,
        operations: Iterable[Operation[Any]],
        planned: Mapping[str, str],
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
        response = await respond(
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
            return Response(NOT_ALLOWED_PAGE, 405, {"allow": ", ".join(sorted(match.methods))}, "text/html")
        origin = WriteOrigin.from_headers(request.headers.get)
        if operation.time_travel is TimeTravel.SNAPSHOT and moments.requested_moment(request):
            parsed = await _parse(services, request, operation, match.placed)
            async with services.reads.snapshots.open_for(services.reads.moments, request) as snapshot:
                answer = await operation.handler(services.in_snapshot(snapshot), Call(parsed, origin))
                return with_moment(await json_answer(answer), snapshot.vector)
        if operation.time_travel is TimeTravel.NONE:
            _reject_moment(request, path)
        parsed = await _parse(services, request, operation, match.placed)
        vector = await services.reads.moments.of_request(request)
        answer = await operation.handler(services, Call(parsed, origin, vector))
        return with_moment(await json_answer(answer), vector)


async def _parse(services: Services, request: Request, operation: Operation[M], placed: Mapping[str, str]) -> M:
    """Return the parsed request. A value in the path wins over one of the same name in the query or the body."""
    message = operation.request
    query = request.scope.get("query_string", b"")
    if request.method in ("GET", "HEAD") and query:
        pairs = urllib.parse.parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        return parse_query(message, [*placed.items(), *pairs])
    body = await read_body(request, services.config.max_body_bytes)
    if request.method in ("GET", "HEAD", "DELETE") and not body:
        return parse_message(message, placed)
    content_type = Headers(scope=request.scope).get("content-type")
    parse = partial(_parse_body, operation, body, content_type, placed)
    return await beside(parse) if len(body) > BODY_BYTES else parse()


def _parse_body(operation: Operation[M], body: bytes, content_type: str | None, placed: Mapping[str, str]) -> M:
    message = operation.request
    plain = message.decode_plain(body)
    if plain is not None:
        check_content_type(content_type)
        return plain
    given = read_json(body, content_type)
    if operation.time_travel is not TimeTravel.NONE:
        moments.reject_in_body(given)
    return parse_message(message, {**given, **placed})
