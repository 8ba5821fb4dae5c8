"""An upgrade is not poison: a declared schema that this release does not know pauses only its partition."""

import io
import json
import struct
from dataclasses import replace

import fastavro

from runfold_log.producer import RecordSender
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.codec.catalog import Catalog, Released, released_catalog
from runfold_schemas.events.runs import RunCreated, TagsSet
from runfold_schemas.events.system import SchemaDeclared
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic
from tests.support.installations.in_process import append, fetch, folded, outgoing, place, sender, until, working
from tests.support.installations.installation import Installation, difference

NEW_ID = 9001


def _next_version() -> Released:
    newest = released_catalog().newest(TagsSet.subject)
    schema = json.loads(newest.text)
    schema["fields"].append({"name": "note", "type": ["null", "string"], "default": None, "doc": "Added later."})
    return Released(NEW_ID, newest.subject, newest.version + 1, 2, newest.topics, json.dumps(schema))


def _newer_catalog() -> Catalog:
    return Catalog([*released_catalog().by_id.values(), _next_version()])


def _newer_record(run_id: str, tags: dict[str, str], sequence: int) -> Outgoing:
    """TagsSet as the next release writes it."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, _next_version().parsed, {"run_id": run_id, "tags": tags, "note": "new"})
    plain = outgoing(Topic.RUNS, TagsSet(run_id=run_id, tags=tags), writer="newer", sequence=sequence)
    return replace(plain, value=struct.pack(">bI", 0, NEW_ID) + body.getvalue())


async def _declare(installation: Installation, raw: RecordSender) -> None:
    schema = _next_version()
    declared = SchemaDeclared(
        schema_id=NEW_ID,
        subject=schema.subject,
        version=schema.version,
        level=schema.level,
        schema=schema.text,
        topics=["runs"],
    )
    await raw.send(Partition(Topic.SYSTEM, 0), outgoing(Topic.SYSTEM, declared, writer="upgrade"))


def _run(run_id: str, sequence: int = 0) -> Outgoing:
    created = RunCreated(run_id=run_id, experiment_id=0, name=run_id, start_ms=1, artifact_uri="u")
    return outgoing(Topic.RUNS, created, sequence=sequence)


def _other_partition(installation: Installation, than: Partition) -> str:
    return next(name for name in (f"other{n}" for n in range(50)) if place(installation, _run(name)) != than)


async def test_a_declared_unknown_schema_pauses_its_partition_until_a_newer_worker_goes_on(
    installation: Installation,
) -> None:
    async with sender(installation) as raw, working(installation) as old:
        await append(installation, raw, [_run("r")])
        await installation.settled()
        await _declare(installation, raw)
        newer = await append(installation, raw, [_newer_record("r", {"a": "1"}, 0)])
        after = await append(
            installation, raw, [outgoing(Topic.RUNS, TagsSet(run_id="r", tags={"b": "2"}), writer="w2")]
        )
        await until("the old worker says that it can't go on", lambda: old.blocked)
        assert any(f"schema id {NEW_ID} is declared" in problem for problem in old.problems)
        assert [error.position for error in old.blocked.values()] == newer

        elsewhere = _other_partition(installation, newer[0].where)
        await folded(installation, await append(installation, raw, [_run(elsewhere)]))
        assert await fetch(installation, "SELECT count(*) FROM set_aside") == [(0,)]
        paused_at = await _checkpoint(installation, newer[0])
        assert paused_at == newer[0].offset

        async with working(installation, catalog=_newer_catalog()):
            await folded(installation, after)
            tags = await fetch(installation, "SELECT key, value FROM run_tag WHERE run_id = 'r' AND key IN ('a', 'b')")
            assert sorted(tags) == [("a", "1"), ("b", "2")]
            await until("the old worker is ready again", lambda: not old.problems)
            rows = await installation.rows()
            # Both workers fold the new generation; what one can't read the other takes.
            assert difference(rows, await installation.replayed()) == ""


async def test_an_undeclared_schema_is_set_aside_and_its_partition_goes_on(installation: Installation) -> None:
    async with sender(installation) as raw, working(installation) as worker:
        records = [
            _run("r"),
            _newer_record("r", {"a": "1"}, 0),
            outgoing(Topic.RUNS, TagsSet(run_id="r", tags={"b": "2"}), writer="w2"),
        ]
        positions = await append(installation, raw, records)
        await folded(installation, positions)
        assert await fetch(installation, "SELECT log_offset, reason FROM set_aside") == [
            (positions[1].offset, "undeclared_schema")
        ]
        assert await fetch(installation, "SELECT value FROM run_tag WHERE key = 'b'") == [("2",)]
        assert worker.blocked == {}


async def _checkpoint(installation: Installation, position: Position) -> int:
    rows = await fetch(
        installation,
        "SELECT next_offset FROM checkpoint WHERE topic = $1 AND partition = $2",
        position.topic.value,
        position.partition,
    )
    return int(rows[0][0])
