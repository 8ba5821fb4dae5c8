"""`runfold rebuild`, `rollback`, `generations`, `state-hash` and `snapshot`, as somebody types them."""

import json
import subprocess
import sys

import asyncpg

from runfold_projections.core.projection import Projection
from runfold_schemas.events.runs import ParamsLogged, RunCreated
from runfold_schemas.positions.topics import Topic
from tests.support.installations.in_process import append, folded, outgoing, sender
from tests.support.installations.installation import Installation


async def test_a_damaged_row_is_found_refused_repaired_and_the_way_back_is_kept(installation: Installation) -> None:
    worker = installation.worker()

    def runfold(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "runfold_stack", *arguments],
            env=worker.env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    created = RunCreated(run_id="r", experiment_id=0, name="n", start_ms=1, artifact_uri="s3://b/0")
    async with sender(installation) as raw:
        events = [created, ParamsLogged(run_id="r", params={"k": "v"})]
        records = [outgoing(Topic.RUNS, event, sequence=number) for number, event in enumerate(events)]
        await folded(installation, await append(installation, raw, records))
    code, before, _ = runfold("state-hash", "runs", "--json")
    assert code == 0
    connection = await asyncpg.connect(installation.services.postgres)
    await connection.execute(f"UPDATE \"{installation.namespace}_runs_1\".run_param SET value = 'damaged'")  # noqa: S608
    await connection.close()
    damaged = json.loads(runfold("state-hash", "runs", "--json")[1])
    assert damaged["hash"] != json.loads(before)["hash"]
    assert damaged["vector"] == json.loads(before)["vector"]

    code, output, _ = runfold("rebuild", "runs", "--dry-run", "--json")
    assert code == 1
    difference, result = (json.loads(line) for line in output.splitlines())
    assert difference == {
        "table": "run_param",
        "key": {"run_id": "r", "key": "k"},
        "column": "value",
        "old": "damaged",
        "new": "v",
    }
    assert (result["differences"], result["outcomes"], result["switched"]) == (1, 0, False)
    code, output, _ = runfold("rebuild", "runs")
    assert (code, output.splitlines()) == (
        1,
        [
            "run_param.value run_id=r key=k: damaged -> v",
            "runs: 1 values or rows differ; generation 3 was dropped; --accept-changes switches all the same",
        ],
    )
    code, output, talk = runfold("rebuild", "runs", "--accept-changes")
    assert code == 0
    assert output.splitlines()[-1] == "runs: 1 values or rows differ; generation 4 is live"
    assert "runs generation 4: comparing" in talk
    assert json.loads(runfold("state-hash", "runs", "--json")[1])["hash"] == json.loads(before)["hash"]
    shown = [entry for entry in json.loads(runfold("generations", "--json")[1]) if entry["projection"] == "runs"]
    assert [(entry["number"], entry["state"]) for entry in shown] == [(1, "standby"), (4, "live")]

    code, _, talk = runfold("generations", "drop", "runs", "4")
    assert code == 1
    assert "generation 4 of runs is live" in talk
    assert runfold("rollback")[:2] == (0, "runs: generation 1 is live again\n")
    assert runfold("generations", "drop", "runs", "4")[:2] == (0, "runs: generation 4 was dropped\n")
    code, _, talk = runfold("rollback")
    assert code == 1
    assert "no projection has a standby" in talk
    code, _, talk = runfold("rebuild", "nothing")
    assert code == 1
    assert f"the projections are {', '.join(Projection)}" in talk

    vector = json.loads(before)["vector"]
    code, output, talk = runfold("snapshot", "create", "early", "--vector", vector)
    assert code == 0, talk
    assert output.startswith(f"snapshot early at {vector}: ")
    assert runfold("state-hash", "runs", "--snapshot", "early")[1] == f"{json.loads(before)['hash']}  runs  {vector}\n"
    (snapshot,) = json.loads(runfold("snapshot", "list", "--json")[1])
    assert (snapshot["name"], snapshot["vector"], snapshot["ready"]) == ("early", vector, True)
    assert runfold("snapshot", "drop", "early")[:2] == (0, "snapshot early was dropped\n")
    code, _, talk = runfold("snapshot", "create", "later", "--at", "2999-01-01")
    assert code == 1
    assert "ahead of this server" in talk
