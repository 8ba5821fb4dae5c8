"""Server-sent events as a client hears them."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One event: what kind, the id that a client resumes with, and the data."""

    kind: str
    id: str
    data: Any


class Parser:
    """Takes lines; an event counts only when its empty line has come."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def line(self, line: str) -> Event | None:
        """The event that this line ends."""
        if line:
            name, _, value = line.partition(": ")
            self._fields[name] = value
            return None
        fields, self._fields = self._fields, {}
        return Event(fields["event"], fields["id"], json.loads(fields["data"])) if "data" in fields else None


async def events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """The events of a stream of lines."""
    parser = Parser()
    async for line in lines:
        event = parser.line(line)
        if event is not None:
            yield event


def events_of(lines: Iterable[str]) -> Iterator[Event]:
    """The events of lines that come one after the other."""
    parser = Parser()
    for line in lines:
        event = parser.line(line)
        if event is not None:
            yield event


Point = tuple[str, str, str, int, int, int, float]
"""Run, key, attempt, rank, step, time, value."""


def points_of(answer: Any) -> list[Point]:
    """Points of an answer of series:history, or of the data of an event."""
    return [
        (one["run_id"], one["metric"], one["attempt"], one["rank"], step, time, value)
        for one in answer["series"]
        for step, time, value in zip(one["steps"], one["times"], one["values"], strict=True)
    ]
