"""The server double for tests of the SDK."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.doubles.event_server import EventServer, event_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventServer]:
    with event_server() as double:
        monkeypatch.setenv("RUNFOLD_TRACKING_URI", double.uri)
        yield double
