"""The server double for tests of the SDK."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from event_server import EventServer, event_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventServer]:
    with event_server() as double:
        monkeypatch.setenv("RUNFOLD_TRACKING_URI", double.uri)
        yield double
