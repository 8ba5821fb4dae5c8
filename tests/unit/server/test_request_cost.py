"""What every request pays for the checks of callers and connections, in calls of functions: they can be counted, unlike
time on a busy machine.
"""

import asyncio
import cProfile
import pstats
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from runfold_server.security.callers import Callers
from runfold_server.security.guard import Guard
from runfold_server.security.timeouts import BoundedProtocol

REQUESTS = 200
MOST_CALLS = 80
"""54 were measured. With Starlette's objects for headers, and timers for requests that come whole, there were 165."""


async def _app(_: Scope, __: Receive, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


async def _calls(protocol: type[Any], app: ASGIApp) -> float:
    """Calls of functions per request, the client's among them."""
    config = uvicorn.Config(app, http=protocol, access_log=False, log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    host, port = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port)

    async def ask(times: int) -> None:
        for _ in range(times):
            writer.write(
                b"POST /api/2.0/mlflow/runs/log-metric HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: */*\r\n"
                b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}" % port
            )
            assert (await reader.readuntil(b"\r\n\r\n{}")).startswith(b"HTTP/1.1 200")

    try:
        await ask(5)
        profile = cProfile.Profile()
        profile.enable()
        await ask(REQUESTS)
        profile.disable()
    finally:
        writer.close()
        server.close()
        await server.wait_closed()
    return float(pstats.Stats(profile).total_calls) / REQUESTS  # type: ignore[attr-defined]


async def test_callers_and_connections_are_checked_in_few_calls() -> None:
    bare = await _calls(HttpToolsProtocol, _app)
    checked = await _calls(BoundedProtocol, Guard(_app, Callers()))
    assert checked - bare < MOST_CALLS, (bare, checked)
