"""A law of webhooks, over generated events, moody receivers, and workers and receivers that die:

every accepted event of a kind that a webhook wants is one delivery, under one id, tried until it is taken or its tries
are used up; and the failed list holds exactly those that were never taken. RUNFOLD_SOAK makes it many histories, and
RUNFOLD_SEED others.
"""

import asyncio
import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runfold_projections.postgres.connection import open_pool
from runfold_projections.webhooks import deliveries
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.registered_models import (
    ModelAliasSet,
    ModelVersionCreated,
    ModelVersionTagsSet,
    RegisteredModelCreated,
)
from runfold_schemas.events.webhooks import WebhookCreated
from runfold_schemas.positions.topics import Topic
from tests.support.doubles.failing_receiver import MOODS, FailingReceiver, listening
from tests.support.installations.in_process import append, fetch, outgoing, sender
from tests.support.installations.installation import Installation, Program, free_port, new_installation
from tests.support.services.running import Services

SOAK = bool(os.environ.get("RUNFOLD_SOAK"))
SEED = int(os.environ.get("RUNFOLD_SEED") or 1)
HISTORIES, EVENTS, KILLS = (15, 60, 4) if SOAK else (1, 24, 2)
MOST, TIMEOUT = 3, 2
KINDS = ["registered_model.created", "model_version.created", "model_version_alias.created", "model_version_tag.set"]
Told = tuple[str, dict[str, str]]


class Registry:
    """What the registry accepts, told by hand: a name is free once, versions count up, aliases and tags need their
    version.
    """

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}

    def accept(self, event: Event) -> Told | None:
        """What it tells; None: it is refused."""
        match event:
            case RegisteredModelCreated() if event.name not in self._versions:
                self._versions[event.name] = 0
                return "registered_model.created", {"name": event.name}
            case ModelVersionCreated() if event.name in self._versions:
                self._versions[event.name] += 1
                return "model_version.created", {"name": event.name, "version": str(self._versions[event.name])}
            case ModelAliasSet() if 1 <= event.version <= self._versions.get(event.name, 0):
                data = {"name": event.name, "alias": event.alias, "version": str(event.version)}
                return "model_version_alias.created", data
            case ModelVersionTagsSet() if 1 <= event.version <= self._versions.get(event.name, 0):
                ((key, value),) = event.tags.items()
                data = {"name": event.name, "version": str(event.version), "key": key, "value": value}
                return "model_version_tag.set", data
        return None


def generated(rng: Random, number: int) -> Event:
    name = f"m{rng.randrange(4)}"
    version = rng.randint(1, 3)
    return rng.choice(
        [
            RegisteredModelCreated(name=name),
            ModelVersionCreated(name=name, source="s3://b/m"),
            ModelVersionCreated(name=name, source="s3://b/m"),
            ModelAliasSet(name=name, alias="prod", version=version),
            ModelVersionTagsSet(name=name, version=version, tags={f"k{number}": "v"}),
        ]
    )


@pytest.mark.soak
@pytest.mark.timeout(7200 if SOAK else 240)
@pytest.mark.parametrize("seed", range(SEED, SEED + HISTORIES))
async def test_every_matching_event_is_told_under_one_id_or_is_among_the_failed(
    services: Services, tmp_path: Path, seed: int
) -> None:
    rng, failing = Random(seed), FailingReceiver(seed)
    async with new_installation(services, f"hook_law_{seed}", tmp_path) as installation:
        with listening(failing, TIMEOUT + 2):
            expected, kills = await _history(installation, rng, failing)
            await _settled(installation, len(expected))
        rows = await fetch(
            installation,
            "SELECT delivery_id::text, webhook_id, log_offset, kind, state, attempts, status FROM delivery",
        )
        async with (
            open_pool(services.postgres, installation.namespace, application="test") as pool,
            pool.acquire() as connection,
        ):
            failed = {
                row["delivery_id"] for row in await deliveries.list_deliveries(connection, None, "failed", 10_000, 0)
            }
    assert Counter(row[1:4] for row in rows) == Counter(expected.keys())
    ids = {row[0] for row in rows}
    assert len(ids) == len(rows)
    assert {one.delivery_id for one in failing.tries} <= ids
    assert failed == ids - failing.taken()
    assert {row[0] for row in rows if row[4] == "delivered"} == failing.taken()
    for delivery_id, webhook, offset, kind, state, attempts, status in rows:
        tries = failing.of(delivery_id)
        assert {(one.path, one.body) for one in tries} == ({(tries[0].path, tries[0].body)} if tries else set())
        assert len(tries) <= attempts <= MOST + kills
        if webhook != "closed":
            assert tries, "told at least once"
            assert tries[0].path == f"/{webhook}"
            data = expected[webhook, offset, kind]
            assert f"{tries[0].data['entity']}.{tries[0].data['action']}" == kind
            assert {name: tries[0].data["data"][name] for name in data} == data
        if state == "failed":
            assert (status == 410) == (webhook == "gone")
            assert webhook == "gone" or attempts >= MOST
    by_state = Counter((row[1], row[4]) for row in rows)
    assert by_state["good", "failed"] == by_state["never", "delivered"] == by_state["gone", "delivered"] == 0
    assert by_state["good", "delivered"] > 3
    assert by_state["never", "failed"] > 0


async def _history(
    installation: Installation, rng: Random, failing: FailingReceiver
) -> tuple[dict[tuple[str, int, str], dict[str, str]], int]:
    """Append it, with deaths in between. What must be told to whom, and how often a worker was killed."""
    hooks = {path[1:]: f"http://127.0.0.1:{failing.port}{path}" for path in MOODS}
    hooks["closed"] = f"http://127.0.0.1:{free_port()}/closed"
    wants = {hook: KINDS if hook == "good" else rng.sample(KINDS, 2) for hook in hooks}
    events: list[Event] = [generated(rng, number) for number in range(EVENTS)]
    # Webhooks are born somewhere in the first half: what came before tells them nothing. One of them is asleep.
    births = {hook: 0 if hook in ("good", "never") else rng.randrange(EVENTS // 2) for hook in hooks}
    for hook, place in sorted(births.items(), key=lambda item: -item[1]):
        made = WebhookCreated(webhook_id=hook, name=hook, url=hooks[hook], kinds=wants[hook])
        events.insert(place, made)
    asleep = WebhookCreated(webhook_id="asleep", name="asleep", url=hooks["good"], kinds=KINDS, active=False)
    events.insert(0, asleep)
    deaths = set(rng.sample(range(3, len(events)), KILLS))
    settings: dict[str, Any] = {
        "webhook_schemes": "http",
        "webhook_private": "true",
        "webhook_timeout": TIMEOUT,
        "webhook_attempts": MOST,
    }
    worker: Program = installation.worker(**settings)
    registry, creation_offset = Registry(), set()
    expected: dict[tuple[str, int, str], dict[str, str]] = {}
    async with sender(installation) as raw:
        for number, event in enumerate(events):
            (at,) = await append(installation, raw, [outgoing(Topic.REGISTRY, event, sequence=number)])
            if isinstance(event, WebhookCreated):
                creation_offset |= {event.webhook_id} & hooks.keys()
            elif told := registry.accept(event):
                kind, data = told
                expected |= {(hook, at.offset, kind): data for hook in creation_offset if kind in wants[hook]}
            if number in deaths:
                # While it tells, or folds, or queues: as chance has it.
                await asyncio.sleep(rng.random() * 2)
                await asyncio.to_thread(worker.kill)
                worker.start()
            elif rng.random() < 0.2:
                await asyncio.sleep(rng.random() / 2)
    await asyncio.to_thread(worker.wait_ready)
    return expected, KILLS


async def _settled(installation: Installation, count: int) -> None:
    await installation.settled()
    async with asyncio.timeout(150 if not SOAK else 900):
        while True:
            states = await fetch(installation, "SELECT state FROM delivery")
            if len(states) >= count and ("waiting",) not in states:
                return
            await asyncio.sleep(0.2)
