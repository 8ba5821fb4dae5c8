"""LISTEN and NOTIFY: progress of the folds, read hints, and changes of the generations."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from runfold_schemas.positions.position import Partition, Position

from .connection import Connection


def progress_channel(namespace: str) -> str:
    """Channel on which a commit announces `topic:partition:next_offset`."""
    return f"{namespace}_progress"


def read_hint_channel(namespace: str) -> str:
    """Channel on which readers announce the end offset that they wait for, as `topic:partition:end_offset`."""
    return f"{namespace}_wanted"


async def listen_for_positions(
    connection: Connection, channel: str, on_position: Callable[[Partition, int], None]
) -> asyncio.Event:
    """Call `on_position` with every position announced on a channel; the event is set when the connection is lost."""
    lost = asyncio.Event()

    def on_notice(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        with contextlib.suppress(ValueError):
            position = Position.parse(str(payload))
            on_position(position.where, position.offset)

    connection.add_termination_listener(lambda _connection: lost.set())
    await connection.add_listener(channel, on_notice)
    return lost


async def send_read_hints(connection: Connection, namespace: str, ends: Mapping[Partition, int]) -> None:
    """Announce to the workers that a reader waits until these end offsets are folded."""
    await connection.execute(
        "SELECT pg_notify($1, hint) FROM unnest($2::text[]) AS hint",
        read_hint_channel(namespace),
        [f"{where}:{end}" for where, end in ends.items()],
    )


async def listen_for_generations(connection: Connection, namespace: str, on_change: Callable[[], None]) -> None:
    """Call `on_change` whenever a generation is created, switched or dropped, as long as the connection lasts."""

    def on_notice(*_: object) -> None:
        on_change()

    await connection.add_listener(f"{namespace}_generations", on_notice)
