"""`runfold status`: parts, versions, positions, lag."""

import asyncio
from typing import Any

import asyncpg
import httpx2

from runfold.errors import RunfoldError
from runfold_log.admin import open_log
from runfold_log.cluster import KafkaCluster
from runfold_log.errors import LogNotCreated, LogUnavailable
from runfold_projections.control.leases import LIVE
from runfold_projections.control.migrations import check_migrated
from runfold_projections.core.errors import NotMigrated, ProjectionError
from runfold_projections.operations import overview
from runfold_projections.operations.sequence_holes import hole_counts, writers_with_holes
from runfold_projections.postgres.connection import Connection, open_connection
from runfold_schemas.positions.position import Partition
from runfold_stack.config.fold_progress import log_ends
from runfold_stack.config.release import RELEASE
from runfold_stack.config.services import Services, reason, without_password
from runfold_storage.bucket import Bucket
from runfold_storage.config import S3Config
from runfold_storage.errors import StorageError

Ends = dict[Partition, int]
SHOWN_WRITERS = 5
"""Writers with holes that the status names; `/api/runfold/v1/sequence-holes` lists all."""


async def status(services: Services, namespace: str) -> dict[str, Any]:
    """Everything that can be found out now, as JSON; a part that does not answer says why."""
    async with asyncio.TaskGroup() as group:
        kafka = group.create_task(_kafka(services.kafka, namespace))
        postgres = group.create_task(_postgres(services.postgres, namespace))
        server = group.create_task(_http(services.server))
        worker = group.create_task(_http(services.worker))
        s3 = group.create_task(_s3(services.s3))
    log, ends = kafka.result()
    tables = postgres.result()
    checkpoints: dict[Partition, int] | None = tables.pop("checkpoints", None)
    positions = []
    for where in sorted(set(ends) | set(checkpoints or {})):
        end, checkpoint = ends.get(where), None if checkpoints is None else checkpoints.get(where, 0)
        lag = None if end is None or checkpoint is None else end - checkpoint
        positions.append({"partition": str(where), "end": end, "checkpoint": checkpoint, "lag": lag})
    parts = {
        "kafka": log,
        "postgres": tables,
        "s3": s3.result() | tables.pop("artifacts", {}),
        "server": server.result(),
        "worker": _by_leases(worker.result(), tables.get("workers")),
    }
    return {"release": RELEASE, "namespace": namespace, "parts": parts, "partitions": positions}


async def _kafka(kafka: KafkaCluster, namespace: str) -> tuple[dict[str, Any], Ends]:
    where = {"address": str(kafka)}
    try:
        async with asyncio.timeout(10):
            info = await open_log(kafka, namespace)
            ends = await log_ends(kafka, info)
    except LogNotCreated as error:
        return {**where, "state": "not ready", "error": str(error)}, {}
    except LogUnavailable as error:
        return {**where, "state": "away", "error": error.reason}, {}
    except (OSError, TimeoutError, RunfoldError) as error:
        return {**where, "state": "away", "error": reason(error)}, {}
    facts = {
        **where,
        "state": "ready",
        "log_id": info.log_id,
        "feature_level": info.level,
        "partitions": info.partitions,
    }
    return facts, ends


async def _postgres(dsn: str, namespace: str) -> dict[str, Any]:
    where = {"address": without_password(dsn)}
    try:
        async with open_connection(dsn, namespace, application="runfold status", timeout=5) as connection:
            facts = {**where, "state": "ready", "version": await connection.fetchval("SHOW server_version")}
            await check_migrated(connection)
            return facts | await overview.overview(connection) | {"sequence_holes": await _holes(connection)}
    except NotMigrated as error:
        return {**facts, "state": "not ready", "error": str(error)}
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ProjectionError) as error:
        return {**where, "state": "away", "error": reason(error)}


async def _holes(connection: Connection) -> dict[str, Any]:
    """Return how many sequence numbers are missing, by topic, and the first writers that have holes."""
    counts = {topic.value: of for topic, of in (await hole_counts(connection)).items() if of.missing}
    first = await writers_with_holes(connection, SHOWN_WRITERS) if counts else []
    return {
        "topics": {topic: {"writers": of.writers, "missing": of.missing} for topic, of in counts.items()},
        "first": [holes.as_json() for holes in first],
    }


async def _s3(config: S3Config | None) -> dict[str, Any]:
    if config is None:
        return {
            "state": "unknown",
            "error": "no S3 store is named (RUNFOLD_S3_ENDPOINT) or runs: the server keeps no artifacts",
        }
    where = {"address": config.endpoint, "bucket": config.bucket}
    try:
        async with Bucket(config, timeout=5) as bucket:
            made = await bucket.exists()
    except StorageError as error:
        return {**where, "state": "away", "error": str(error)}
    return {**where, "state": "ready", "made": made}


async def _http(url: str | None) -> dict[str, Any]:
    if url is None:
        return {"state": "unknown", "error": "no stack of this namespace runs on the data directory"}
    try:
        async with httpx2.AsyncClient(timeout=5, trust_env=False) as client:
            answer = await client.get(f"{url}/health/ready")
            return {
                "address": url,
                "state": "ready" if answer.status_code == 200 else "not ready",
                "detail": answer.json(),
            }
    except (httpx2.HTTPError, ValueError) as error:
        return {"address": url, "state": "away", "error": reason(error)}


def _by_leases(worker: dict[str, Any], workers: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The worker as it answered; where none could be asked, what leases say that is wrong."""
    if worker["state"] != "unknown" or workers is None:
        return worker
    if not any(LIVE in one["kinds"] for one in workers):
        return {"state": "away", "error": "none is alive, so nothing is folded: start `runfold worker`"}
    blocked = sorted({item for one in workers for item in one["blocked"]})
    return {"state": "not ready", "error": f"can't go on with {', '.join(blocked)}"} if blocked else worker


def is_well(found: dict[str, Any]) -> bool:
    """Whether no part is away or not ready, and no table ahead of the log, and no file damaged.

    A server or worker that can't be asked from here does not count.
    """
    parts = all(part["state"] in ("ready", "unknown") for part in found["parts"].values())
    whole = not found["parts"]["s3"].get("damaged")
    return parts and whole and not any(map(_is_ahead, found["partitions"]))


def _is_ahead(row: dict[str, Any]) -> bool:
    return row["lag"] is not None and row["lag"] < 0


def render(found: dict[str, Any]) -> str:
    """The status for people: a part per line with its facts, its address below it, then the partitions.

    Ids and addresses stay whole.
    """
    parts = found["parts"]
    lines = [f"Runfold {found['release']}, namespace {found['namespace']}, log {parts['kafka'].get('log_id', '?')}", ""]
    for name, part in parts.items():
        lines.append(f"{name:<10}{part['state']:<11}{_facts(name, part)}".rstrip())
        lines += [f"  {part[key]}" for key in ("address", "error") if part.get(key)]
        lines += _damaged(part) + _missing(part)
    workers = parts["postgres"].get("workers", [])
    if workers:
        lines += ["", "workers"]
    lines += [
        f"  pid {w['pid']} on {w['host']}: release {w['release']}, {w['partitions']} partitions"
        + (f", can't go on with {len(w['blocked'])}" if w["blocked"] else "")
        for w in workers
    ]
    if found["partitions"]:
        lines += ["", f"{'partition':<16}{'log end':>12}{'checkpoint':>12}{'lag':>10}"]
    for row in found["partitions"]:
        end, checkpoint, lag = ("?" if row[key] is None else str(row[key]) for key in ("end", "checkpoint", "lag"))
        ahead = "  ahead of the log, which was truncated or recreated: not folded" if _is_ahead(row) else ""
        lines.append(f"{row['partition']:<16}{end:>12}{checkpoint:>12}{lag:>10}{ahead}")
    return "\n".join(lines)


def _damaged(part: dict[str, Any]) -> list[str]:
    if not part.get("damaged"):
        return []
    files = [f"    {file['owner']}/{file['path']}: {file['found']}" for file in part["damaged_files"]]
    return [f"  DAMAGED: the bytes of {part['damaged']} files are not those in the log", *files]


def _missing(part: dict[str, Any]) -> list[str]:
    holes = part.get("sequence_holes") or {"topics": {}}
    counts = [f"{of['missing']} of {of['writers']} writers in {topic}" for topic, of in sorted(holes["topics"].items())]
    if not counts:
        return []
    lines = [
        f"    {one['partition']} {one['entity']} by {one['writer']}: {', '.join(one['first'])}"
        for one in holes["first"]
    ]
    return [f"  HOLES: events that writers numbered are not in the log: {', '.join(counts)}", *lines]


def _facts(name: str, part: dict[str, Any]) -> str:
    if name == "kafka" and "partitions" in part:
        return f"feature level {part['feature_level']}, {part['partitions']} partitions of runs and of metrics"
    if name == "postgres" and "version" in part:
        counts = f", {part['rejected']} events rejected, {part['set_aside']} dead letters" if "rejected" in part else ""
        return f"version {part['version']}{counts}"
    if name == "s3" and "made" in part:
        checked = f", all files checked {part['all_checked_at']}" if part.get("all_checked_at") else ""
        return f"bucket {part['bucket']}" + (checked if part["made"] else ", which the first upload makes")
    problems = (part.get("detail") or {}).get("problems") or [
        f"{service}: {answer.get('error', 'no answer')}"
        for service, answer in ((part.get("detail") or {}).get("parts") or {}).items()
        if not answer.get("ok")
    ]
    return "; ".join(str(problem) for problem in problems)
