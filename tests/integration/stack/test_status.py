"""`runfold status` where services are one's own: what it can say of workers that it can't ask."""

import asyncio
from typing import Any

from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.experiments import ExperimentCreated
from runfold_schemas.events.runs import RunCreated, TagsSet
from runfold_schemas.positions.topics import Topic
from runfold_stack.commands.status import is_well, render, status
from runfold_stack.config.services import Services
from tests.support.installations.in_process import append, bare_topic, folded, outgoing, sender, until, working
from tests.support.installations.installation import Installation


async def _status(installation: Installation) -> dict[str, Any]:
    return await status(Services(installation.services.kafka, installation.services.postgres), installation.namespace)


async def test_without_a_worker_nothing_is_well(installation: Installation) -> None:
    found = await _status(installation)
    assert (found["parts"]["worker"]["state"], is_well(found)) == ("away", False)
    assert "start `runfold worker`" in found["parts"]["worker"]["error"]
    async with working(installation):
        await installation.settled()
        found = await _status(installation)
        assert (len(found["parts"]["postgres"]["workers"]), is_well(found)) == (1, True)


async def test_a_killed_worker_is_not_shown_though_nobody_has_buried_it(installation: Installation) -> None:
    worker = installation.program("worker")
    worker.wait_ready()
    await installation.settled()
    worker.kill()
    async with asyncio.timeout(8):
        while (found := await _status(installation))["parts"]["postgres"]["workers"]:
            await asyncio.sleep(0.1)
    assert not is_well(found)


async def test_tables_that_are_ahead_of_a_log_made_anew_are_not_well(installation: Installation) -> None:
    async with sender(installation) as raw, working(installation):
        events = [outgoing(Topic.EXPERIMENTS, ExperimentCreated(name="e"))]
        await folded(installation, await append(installation, raw, events))
        await installation.settled()
        assert is_well(await _status(installation))
        await bare_topic(installation, Topic.EXPERIMENTS)
        found = await _status(installation)
        assert not is_well(found)
        assert "-2  ahead of the log, which was truncated or recreated" in render(found)


async def test_events_that_never_came_are_shown_until_they_do(installation: Installation) -> None:
    run = RunCreated(run_id="r", experiment_id=0, name="", start_ms=1, artifact_uri="u")

    def numbered(*numbers: int) -> list[Outgoing]:
        first = [outgoing(Topic.RUNS, run, writer="w", sequence=0)] if 0 in numbers else []
        tags = [n for n in numbers if n]
        return first + [
            outgoing(Topic.RUNS, TagsSet(run_id="r", tags={f"t{n}": ""}), writer="w", sequence=n) for n in tags
        ]

    async with sender(installation) as raw, working(installation, hole_check_seconds=0.2) as worker:
        await folded(installation, await append(installation, raw, numbered(0, 1)))
        found = await _status(installation)
        assert found["parts"]["postgres"]["sequence_holes"] == {"topics": {}, "first": []}
        assert "HOLES" not in render(found)
        await folded(installation, await append(installation, raw, numbered(3, 6, 7)))
        found = await _status(installation)
        (first,) = found["parts"]["postgres"]["sequence_holes"]["first"]
        assert (first["entity"], first["writer"], first["missing"], first["first"]) == ("r", "w", 3, ["2", "4-5"])
        assert "HOLES: events that writers numbered are not in the log: 3 of 1 writers in runs" in render(found)
        assert "r by w: 2, 4-5" in render(found)
        assert is_well(found), "a spool may still send them"

        def gauge() -> float | None:
            return worker.metrics.registry.get_sample_value("runfold_sequence_holes", {"topic": "runs"})

        await until("the holes are counted", lambda: gauge() == 3)
        await folded(installation, await append(installation, raw, numbered(4, 5, 2)))
        assert (await _status(installation))["parts"]["postgres"]["sequence_holes"] == {"topics": {}, "first": []}
        await until("the holes are filled", lambda: gauge() == 0)
