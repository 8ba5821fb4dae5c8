"""The server as a process: one worker or several, a quick answer on a kept connection, a clean end."""

from __future__ import annotations

import signal
import socket
import statistics
import subprocess
import sys
import time

import httpx2
import pytest

PROGRAM = """
import sys
from runfold_server.app.application import serve
from runfold_log.cluster import KafkaCluster
from runfold_server.core.config import ServerConfig
port, workers = map(int, sys.argv[1:3])
serve(ServerConfig(KafkaCluster("127.0.0.1:1"), "postgresql://nobody@127.0.0.1:1/none", port=port, workers=workers))
"""
NAGLE_SECONDS = 0.03
"""A small answer held back for a delayed acknowledgement takes 40 ms."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_process(workers: int) -> None:
    port = free_port()
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, str(port), str(workers)])
    try:
        url = f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/log-metric"
        with httpx2.Client(timeout=10) as client:
            for _ in range(200):
                try:
                    client.post(url, json={})
                    break
                except httpx2.TransportError:
                    time.sleep(0.1)
            times = []
            for _ in range(30):
                began = time.perf_counter()
                assert client.post(url, json={}).status_code == 400
                times.append(time.perf_counter() - began)
        assert statistics.median(times) < NAGLE_SECONDS
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 0
    finally:
        program.kill()
        program.wait()
