"""The server's listening socket."""

from __future__ import annotations

import socket

from runfold_server.app.application import listening_socket


def test_accepted_connections_send_at_once() -> None:
    with listening_socket("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
