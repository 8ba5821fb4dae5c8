"""Demonstrate Runfold: start it, train twice, read the runs and their events, promote a model, query the past, stop."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.table import Table

from runfold_log.admin import open_log
from runfold_schemas.positions.topics import Topic
from runfold_stack.commands.tail import tail
from runfold_stack.config.settings import load_settings
from runfold_stack.programs.up import Up, runfold_up

HERE = Path(__file__).parent
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


async def main(data_dir: Path) -> None:
    """Run the demo with a data directory."""
    console.rule("[bold]1. Start: Kafka, Postgres, an S3 store, a worker, the server")
    started = time.monotonic()
    settings = load_settings(data_dir=data_dir, partitions=2)
    async with runfold_up(settings, lambda part, state, detail: console.print(f"  {part:<9} {state} {detail}")) as up:
        console.print(f"  ready after {time.monotonic() - started:.1f} s at {up.url}\n")
        console.rule("[bold]2. Train: once with the unmodified MLflow client, once with `import runfold`")
        for script in ("train_mlflow.py", "train_runfold.py"):
            await train(script, up.url, data_dir / "spool")
        console.print()
        async with httpx2.AsyncClient(base_url=up.url, timeout=30, trust_env=False) as client:
            runs = await show_runs(client.post)
            await show_artifact(client, next(run for run in runs if run["info"]["run_name"] == "sgd-mlflow"))
            await show_events(up, settings.namespace, {run["info"]["run_id"]: run["info"]["run_name"] for run in runs})
            await promote_and_look_back(client, next(r for r in runs if r["info"]["run_name"] != "sgd-mlflow"))
        console.rule("[bold]5. Stop")
    console.print("  everything is stopped")
    console.print(
        "\nNext: [bold]make up[/] starts the same stack and leaves it running. The README shows how to use it."
    )


async def train(script: str, url: str, spool: Path) -> None:
    """Run a training script in its own process, against the server.

    It has its own spool, so it does not send what earlier runs left on this machine.
    """
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / script),
        env={**os.environ, "MLFLOW_TRACKING_URI": url, "RUNFOLD_TRACKING_URI": url, "RUNFOLD_SPOOL_DIR": str(spool)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        console.print(output.decode(), markup=False)
        raise SystemExit(f"examples/{script} failed with exit code {process.returncode}")
    console.print(f"  examples/{script}: {time.monotonic() - started:.1f} s")


async def show_runs(post: Callable[..., Awaitable[Any]]) -> list[dict[str, Any]]:
    """Show the runs, read through MLflow's REST API."""
    console.rule("[bold]3. Read: the runs, and their events in the log")
    answer = await post(
        "/api/2.0/mlflow/runs/search", json={"experiment_ids": ["1"], "order_by": ["metrics.val_accuracy DESC"]}
    )
    answer.raise_for_status()
    runs: list[dict[str, Any]] = answer.json()["runs"]
    table = Table(box=None, pad_edge=False)
    for title in ("run", "status", "params", "metrics (latest)"):
        table.add_column(title, overflow="fold")
    for run in runs:
        info, data = run["info"], run["data"]
        table.add_row(
            info["run_name"],
            info["status"],
            "\n".join(f"{p['key']}={p['value']}" for p in data["params"]),
            "\n".join(f"{m['key']}={m['value']:.4f} (step {m['step']})" for m in data["metrics"]),
        )
    console.print(table)
    console.print()
    return runs


async def show_artifact(client: httpx2.AsyncClient, run: dict[str, Any]) -> None:
    """Show a file that the training logged. Its bytes are in the S3 store, its digest is in the log."""
    answer = await client.get(
        "/get-artifact", params={"run_id": run["info"]["run_id"], "path": "evaluation/report.txt"}
    )
    answer.raise_for_status()
    last = answer.text.rstrip().splitlines()[-1]
    console.print(f"  evaluation/report.txt of {run['info']['run_name']}, {len(answer.content)} bytes, ends with:")
    console.print(f"  {last}", markup=False)
    console.print(f"  SHA-256 {answer.headers['etag'].strip(chr(34))}\n")


async def show_events(up: Up, namespace: str, names: dict[str, str]) -> None:
    """Show the events in the log, ordered by the broker's time: position, type and subject."""
    info = await open_log(up.kafka, namespace)
    topics = [Topic.EXPERIMENTS, Topic.RUNS, Topic.METRICS]
    events = [json.loads(line) async for line in tail(up.kafka, info, topics)]
    table = Table(box=None, pad_edge=False)
    for title in ("position", "type", "subject"):
        table.add_column(title)
    batches: dict[str, list[str]] = {}
    for event in sorted(events, key=lambda e: e["broker_time"]):
        kind, data = event["type"].rpartition(".")[2], event["data"]
        subject = names.get(data.get("run_id", ""), data.get("name", data.get("path", "")))
        if kind == "Genesis":
            continue
        if kind == "MetricsLogged":
            positions = batches.setdefault(subject, [])
            positions.append(event["position"])
            if len(positions) > 2:
                continue
            points = sum(len(frame["values"]) for frame in data["frames"])
            subject = f"{subject}: {points} points"
        table.add_row(event["position"], kind, subject)
    console.print(table)
    for name, positions in batches.items():
        if len(positions) > 2:
            console.print(f"  … and {len(positions) - 2} more MetricsLogged of {name}, up to {positions[-1]}")
    console.print("  A position is topic:partition:offset. `runfold events tail` prints complete events.\n")


async def promote_and_look_back(client: httpx2.AsyncClient, second: dict[str, Any]) -> None:
    """Move an alias under conditions, once in vain; then read its past value and the model's history."""
    console.rule("[bold]4. Promote a model, see a promotion rejected, and query the past")
    body = {"name": "digits", "source": f"runs:/{second['info']['run_id']}/model", "run_id": second["info"]["run_id"]}
    (await client.post("/api/2.0/mlflow/model-versions/create", json=body)).raise_for_status()

    async def promote(version: int, only_if: int | None) -> Any:
        answer = await client.post(
            "/api/runfold/v1/models:promote",
            json={
                "moves": [{"name": "digits", "alias": "prod", "version": version}],
                "conditions": [{"name": "digits", "alias": "prod", "version": only_if}],
            },
        )
        reply = answer.json()
        before = "is not set" if only_if is None else f"is on {only_if}"
        result = reply["position"] if answer.is_success else f"rejected: {reply['message']}"
        console.print(f"  digits@prod={version} if @prod {before}: {result}", markup=False)
        return reply

    first = await promote(1, None)
    await promote(2, 1)
    await promote(1, 1)
    topic, partition, offset = first["position"].split(":")
    moment = f"{topic}:{partition}:{int(offset) + 1}"
    for when, query in (("now", {}), (f"as of {moment}", {"as_of": moment})):
        answer = await client.get(
            "/api/2.0/mlflow/registered-models/alias", params={"name": "digits", "alias": "prod", **query}
        )
        answer.raise_for_status()
        console.print(f"  digits@prod {when}: version {answer.json()['model_version']['version']}", markup=False)
    answer = await client.get("/api/runfold/v1/models/digits/events")
    answer.raise_for_status()
    table = Table(box=None, pad_edge=False)
    for title in ("position", "type", "outcome", "@prod"):
        table.add_column(title)
    for event in answer.json()["events"]:
        moved = [f"{c['from']} -> {c['to']}" for c in event["changes"] if c["field"] == "alias.prod"]
        table.add_row(event["position"], event["type"].rpartition(".")[2], event["outcome"], *moved)
    console.print(table)
    console.print(
        "  The history includes rejected promotions. `as_of` also accepts a time, such as 2026-03-01T12:00.\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="keep the data here; default: a temporary directory")
    data_dir = parser.parse_args().data_dir
    if data_dir:
        asyncio.run(main(data_dir))
    else:
        with tempfile.TemporaryDirectory(prefix="runfold-demo-") as directory:
            asyncio.run(main(Path(directory)))
