"""Bounds on slow or hostile HTTP connections: size of headers, time, and number of connections.

A subclass of uvicorn's protocol, because only the protocol sees a request before it is complete, and a response that
the client does not read.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds of one connection. Times are in seconds, sizes in bytes.

    Headers and request line must be complete after `header_seconds`. A body must advance by `progress_bytes` in every
    `stall_seconds` unless this side holds it back, and a response that waits for its client by as much in every
    `answer_seconds`.
    """

    header_bytes: int = 256 * 1024
    headers: int = 200
    header_seconds: float = 15.0
    stall_seconds: float = 30.0
    answer_seconds: float = 60.0
    progress_bytes: int = 4 * 1024
    connections: int = 2_000


PATIENCE = Patience()
_REASONS = {
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `patience` is an attribute of the class, so that tests can lower it."""

    patience = PATIENCE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_headers = True
        self._header_bytes = 0
        self._body_bytes = 0
        self._quiet_bytes = 0
        """Bytes since the last piece of the body: trailers, and separators of chunks."""
        self._held_back = False
        """Whether this side held back the body since the last check."""
        self._unsent = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection. At the limit, drop an idle one for it or reject it."""
        super().connection_made(transport)
        if len(self.connections) > self.patience.connections and not self._drop_idle():
            self._reject(503, "This server has reached its limit of connections; try again later.")
            return
        self._start_timer("headers", self.patience.header_seconds, self._end_late_headers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the connection's timers."""
        for name in list(self._timers):
            self._cancel_timer(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received data, unless it exceeds the limit of headers."""
        if self.transport.is_closing():
            return
        if self._in_headers:
            # One read has at most 256 KiB, so a check before parsing bounds the work.
            self._header_bytes += len(data)
            if (
                self._header_bytes > self.patience.header_bytes
                and b"\r\n\r\n" not in data[: self.patience.header_bytes]
            ):
                self._reject(431, f"The request's headers have more than {self.patience.header_bytes} bytes.")
                return
        self._quiet_bytes += len(data)
        super().data_received(data)
        if not self._in_headers and self._quiet_bytes > self.patience.header_bytes:
            self.transport.abort()
        self._wait_for_rest()

    def _wait_for_rest(self) -> None:
        """Start a timer for the rest of the request. Most requests arrive in one piece and need none."""
        if self.transport.is_closing():
            return
        if not self._in_headers:
            if "body" not in self._timers:
                self._start_timer("body", self.patience.stall_seconds, self._check_body)
        elif self._header_bytes and "headers" not in self._timers:
            self._start_timer("headers", self.patience.header_seconds, self._end_late_headers)

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
        self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; too many end the parsing."""
        super().on_header(name, value)
        if len(self.headers) > self.patience.headers:
            self._reject(431, f"The request has more than {self.patience.headers} headers.")
            raise httptools.HttpParserError("too many headers")

    def on_headers_complete(self) -> None:
        """Pass the request on."""
        if self.transport.is_closing():
            return
        self._in_headers = False
        self._cancel_timer("headers")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Add a piece of the body."""
        self._body_bytes += len(body)
        self._quiet_bytes = 0
        super().on_body(body)
        self._held_back = self._held_back or self.flow.read_paused

    def on_message_complete(self) -> None:
        """Finish the request; another one may follow."""
        self._cancel_timer("body")
        self._in_headers, self._header_bytes = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP, unless it was rejected already."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def pause_writing(self) -> None:
        """Start the timer of a response that the client does not read."""
        super().pause_writing()
        self._unsent = self.transport.get_write_buffer_size()
        self._start_timer("answer", self.patience.answer_seconds, self._check_answer)

    def resume_writing(self) -> None:
        """Cancel the timer: the client has caught up."""
        self._cancel_timer("answer")
        super().resume_writing()

    def _end_late_headers(self) -> None:
        if self.flow.read_paused:
            self._start_timer("headers", self.patience.header_seconds, self._end_late_headers)
        elif self._is_idle and not self._header_bytes:
            self.transport.close()
        else:
            self._reject(408, f"The request's headers took longer than {self.patience.header_seconds:g} s.")

    def _check_body(self) -> None:
        waited, self._held_back = self._held_back, self.flow.read_paused
        got, self._body_bytes = self._body_bytes, 0
        expected = self.cycle is None or not self.cycle.waiting_for_100_continue
        if expected and got < self.patience.progress_bytes and not waited and not self.flow.read_paused:
            # A response in between may never be read. The application gets a disconnect instead.
            self.transport.abort()
            return
        self._start_timer("body", self.patience.stall_seconds, self._check_body)

    def _check_answer(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if self._unsent - unsent < self.patience.progress_bytes:
            self.transport.abort()
            return
        self._unsent = unsent
        self._start_timer("answer", self.patience.answer_seconds, self._check_answer)

    @property
    def _is_idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def _drop_idle(self) -> bool:
        for other in self.connections:
            if isinstance(other, BoundedProtocol) and other is not self and other._is_idle:
                other.transport.abort()
                return True
        return False

    def _reject(self, status: int, message: str) -> None:
        """Answer with an error and close; nothing after it is read."""
        for name in list(self._timers):
            self._cancel_timer(name)
        if self._is_idle:
            body = json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode()
            head = (
                f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\nretry-after: 5\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self._close()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        if not self.transport.is_closing():
            self._close()

    def _close(self) -> None:
        # Unsent data would keep a closed connection open for ever.
        self.transport.close()
        self._start_timer("close", self.patience.answer_seconds, self.transport.abort)

    def _start_timer(self, name: str, seconds: float, call: Any) -> None:
        self._cancel_timer(name)
        self._timers[name] = self.loop.call_later(seconds, call)

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
