"""The worker's HTTP server: liveness, readiness, metrics, and the partitions it holds."""

import asyncio
from asyncio import Protocol
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from .worker import Worker


def health_app(worker: Worker) -> Starlette:
    """Make the application of one worker: /health/live, /health/ready, /status, /metrics."""

    async def live(_: Request) -> Response:
        return PlainTextResponse("OK")

    async def ready(_: Request) -> Response:
        problems = worker.problems
        return JSONResponse({"ready": not problems, "problems": problems}, status_code=503 if problems else 200)

    async def status(_: Request) -> Response:
        return JSONResponse(describe(worker))

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(worker.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/status", status),
            Route("/metrics", metrics),
        ]
    )


def describe(worker: Worker) -> dict[str, Any]:
    """Return the worker's partitions, problems and blocked partitions as JSON."""
    return {
        "worker_id": worker.worker_id,
        "problems": worker.problems,
        "partitions": [
            {
                "handler": item.handler,
                "partition": str(item.where),
                "state": status.state.value,
                "detail": status.detail,
                "next_offset": status.next_offset,
            }
            for item, status in sorted(worker.statuses.items(), key=lambda pair: (pair[0].handler, pair[0].where))
        ],
        "blocked": [
            {"handler": item.handler, "position": str(error.position), "schema_id": error.schema_id}
            for item, error in worker.blocked.items()
        ],
    }


class _Embedded(uvicorn.Server):
    """uvicorn without its signal handlers: the embedding process decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve_health(
    worker: Worker, host: str, port: int, guard: Callable[[ASGIApp], ASGIApp], protocol: type[Protocol]
) -> None:
    """Serve until cancelled.

    `guard` wraps the application and denies callers; `protocol` is uvicorn's HTTP protocol.
    """
    config = uvicorn.Config(
        guard(health_app(worker)),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        http=protocol,
        proxy_headers=False,
    )
    server = _Embedded(config)
    serving = asyncio.ensure_future(server.serve())
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
