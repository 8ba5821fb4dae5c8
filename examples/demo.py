"""The whole way of an event, once: start everything, train twice, read back, show the log, promote a model, ask the
past, stop.
"""

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
    """Run the demonstration on a data directory."""
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
    console.print("\nNext: [bold]make up[/] leaves the same stack running; the README says what to point at it.")


async def train(script: str, url: str, spool: Path) -> None:
    """Run one training script in a process of its own, pointed at the server.

    With a spool of its own: what trainings before have left on this machine is none of the demonstration's business.
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
    """Read the runs back through MLflow's REST API, as any client would."""
    console.rule("[bold]3. Read back: the runs, and the events that made them")
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
    """Read back the file that the training logged; its bytes lie in the S3 store, its digest in the log."""
    answer = await client.get(
        "/get-artifact", params={"run_id": run["info"]["run_id"], "path": "evaluation/report.txt"}
    )
    answer.raise_for_status()
    last = answer.text.rstrip().splitlines()[-1]
    console.print(f"  evaluation/report.txt of {run['info']['run_name']}, {len(answer.content)} bytes, ends with:")
    console.print(f"  {last}", markup=False)
    console.print(f"  SHA-256 {answer.headers['etag'].strip(chr(34))}\n")


async def show_events(up: Up, namespace: str, names: dict[str, str]) -> None:
    """Print the log in the order of the broker's time: position, type, and what it is about."""
    info = await open_log(up.kafka, namespace)
    topics = [Topic.EXPERIMENTS, Topic.RUNS, Topic.METRICS]
    events = [json.loads(line) async for line in tail(up.kafka, info, topics)]
    table = Table(box=None, pad_edge=False)
    for title in ("position", "type", "about"):
        table.add_column(title)
    batches: dict[str, list[str]] = {}
    for event in sorted(events, key=lambda e: e["broker_time"]):
        kind, data = event["type"].rpartition(".")[2], event["data"]
        about = names.get(data.get("run_id", ""), data.get("name", data.get("path", "")))
        if kind == "Genesis":
            continue
        if kind == "MetricsLogged":
            positions = batches.setdefault(about, [])
            positions.append(event["position"])
            if len(positions) > 2:
                continue
            points = sum(len(frame["values"]) for frame in data["frames"])
            about = f"{about}: {points} points"
        table.add_row(event["position"], kind, about)
    console.print(table)
    for name, positions in batches.items():
        if len(positions) > 2:
            console.print(f"  … and {len(positions) - 2} more MetricsLogged of {name}, up to {positions[-1]}")
    console.print("  A position is topic:partition:offset. `runfold events tail` prints the events whole.\n")


async def promote_and_look_back(client: httpx2.AsyncClient, second: dict[str, Any]) -> None:
    """Move an alias under conditions, once in vain, and ask what was true before; then the model's own history."""
    console.rule("[bold]4. Promote, be refused, and ask the past")
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
        said = answer.json()
        before = "is not set" if only_if is None else f"is on {only_if}"
        told = said["position"] if answer.is_success else f"refused: {said['message']}"
        console.print(f"  digits@prod={version} if @prod {before}: {told}", markup=False)
        return said

    first = await promote(1, None)
    await promote(2, 1)
    await promote(1, 1)
    topic, partition, offset = first["position"].split(":")
    moment = f"{topic}:{partition}:{int(offset) + 1}"
    for when, asked in (("now", {}), (f"as of {moment}", {"as_of": moment})):
        answer = await client.get(
            "/api/2.0/mlflow/registered-models/alias", params={"name": "digits", "alias": "prod", **asked}
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
    console.print("  Refused tries are history, too. `as_of` takes a time as well, such as 2026-03-01T12:00.\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="keep the data here; without it, it goes when the demo ends")
    given = parser.parse_args().data_dir
    if given:
        asyncio.run(main(given))
    else:
        with tempfile.TemporaryDirectory(prefix="runfold-demo-") as directory:
            asyncio.run(main(Path(directory)))
