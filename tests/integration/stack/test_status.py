"""`runfold status` where services are one's own: what it can say of workers that it can't ask."""

import asyncio
from typing import Any

from runfold_schemas.events.experiments import ExperimentCreated
from runfold_schemas.positions.topics import Topic
from runfold_stack.commands.status import is_well, render, status
from runfold_stack.config.services import Services
from tests.support.installations.in_process import append, bare_topic, folded, outgoing, sender, working
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
        assert "-2  ahead of the log, which was cut or made anew" in render(found)
