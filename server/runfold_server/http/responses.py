"""Responses of the API: JSON, errors in MLflow's shape, and the moment that an answer about the past shows."""

from typing import Any

import msgspec
from pydantic import ValidationError
from starlette.responses import Response

from runfold_schemas.positions.vector import Vector
from runfold_server.core.errors import ApiError
from runfold_server.reads import moments

from .large_json import InPieces, beside, is_large, pieces

NOT_FOUND_PAGE = (
    "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"
    "<p>The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again.</p>\n"
)
NOT_ALLOWED_PAGE = (
    "<!doctype html>\n<html lang=en>\n<title>405 Method Not Allowed</title>\n<h1>Method Not Allowed</h1>\n"
    "<p>The method is not allowed for the requested URL.</p>\n"
)


def json_response(value: Any, status: int = 200) -> Response:
    """Return JSON as MLflow's, without its indentation."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def json_answer(value: Any, status: int = 200) -> Response:
    """Return JSON that may be large: then it is encoded beside the event loop and sent in pieces."""
    if is_large(value):
        return InPieces(await beside(pieces, value), status)
    return json_response(value, status)


def error_response(error: ApiError) -> Response:
    """Return an error in MLflow's shape."""
    return Response(error.body(), error.status, error.headers(), "application/json")


def with_moment(response: Response, vector: Vector | None) -> Response:
    """Return the response with the vector that it shows in a header; None is the present and adds none."""
    if vector is not None:
        response.headers[moments.HEADER] = moments.vector_text(vector)
    return response


def first_problem(error: ValidationError) -> str:
    """Return the first problem of an event that breaks the contract, in the words of a request's error."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"Invalid value for parameter '{'.'.join(str(part) for part in first['loc'])}' supplied: {first['msg']}"
