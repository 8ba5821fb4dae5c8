"""`runfold timeline`, `why` and `diff` as somebody types them, about a small story on a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from typer.testing import CliRunner

from runfold_schemas.codec.batch import CONTENT_TYPE, encode_batch
from runfold_schemas.events.runs import TagsSet
from runfold_schemas.positions.topics import Topic
from runfold_stack.commands.main import app
from runfold_stack.errors import StackError
from tests.support.api.moments import NATIVE, moment, now
from tests.support.installations.in_process import outgoing
from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import API, Caller

Run = Callable[..., tuple[str, str]]
Refused = Callable[..., str]


@dataclass
class Story:
    """A run that a model was made of, and moments of their life."""

    experiment: str
    run: str
    logged_model: str
    moments: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def story(servers: ServerPair) -> Iterator[Story]:
    with servers.client() as client:
        caller = Caller(client)
        experiment = caller.experiment("speech")
        run = caller.run(experiment_id=experiment, run_name="baseline", start_time=1772366400000)
        caller.post("runs/log-parameter", run_id=run, key="lr", value="0.1")
        caller.post("runs/log-parameter", 400, run_id=run, key="lr", value="0.2")
        for step in range(4):
            caller.post("runs/log-metric", run_id=run, key="loss", value=1 - step / 4, timestamp=step, step=step)
        caller.post("runs/set-tag", run_id=run, key="team", value="a")
        tagged = str(moment())
        caller.post("runs/set-tag", run_id=run, key="team", value="two\nlines")
        made = caller.post("logged-models", experiment_id=experiment, name="lm", source_run_id=run)["model"]["info"]
        caller.post("registered-models/create", name="churn", description="who leaves")
        caller.post("registered-models/create", 400, name="churn")
        for _ in range(3):
            caller.post("model-versions/create", name="churn", source="s3://b/m", run_id=run)
        caller.post("registered-models/alias", name="churn", alias="prod", version="1")
        first = now(client)
        caller.post("registered-models/alias", name="churn", alias="prod", version="3")
        caller.post("registered-models/alias", 404, name="churn", alias="prod", version="9")
        client.request("DELETE", f"{API}model-versions/delete", json={"name": "churn", "version": "3"})
        caller.post("registered-models/rename", name="churn", new_name="leavers")
        yield Story(experiment, run, made["model_id"], {"tagged": tagged, "prod was 1": first})


@pytest.fixture
def run(servers: ServerPair) -> Run:
    """What a command prints: data, and talk."""

    def call(*arguments: str) -> tuple[str, str]:
        done = CliRunner().invoke(app, [*arguments, "--server", servers.uris[0]])
        if done.exception is not None:
            raise done.exception
        return done.stdout, done.stderr

    return call


@pytest.fixture
def refused(run: Run) -> Refused:
    """What a command says when it can't."""

    def call(*arguments: str) -> str:
        with pytest.raises(StackError) as error:
            run(*arguments)
        return str(error.value)

    return call


def without_times(text: str) -> list[str]:
    """The lines, with the time of an event left out."""
    return [" ".join(word for word in line.split() if not word.startswith("202")) for line in text.splitlines()]


def test_the_timeline_of_a_run_reads_like_a_story(run: Run, story: Story) -> None:
    said, talk = run("timeline", "run", story.run)
    lines = without_times(said)
    place = lines[0].split(" ")[0].rpartition(":")[0]
    assert lines[0].endswith("RunCreated by anonymous")
    assert "    start_time: - -> 2026-03-01T12:00:00.000Z" in said.splitlines()
    assert lines[lines.index('params.lr: - -> "0.1"') + 1].startswith(
        f"{place}:{int(lines[0].split(' ')[0].rpartition(':')[2]) + 2} "
        "ParamsLogged by anonymous REFUSED param_changed: Changing"
    )
    assert lines[-2] == r'tags.team: "a" -> "two\nlines"'
    assert lines[-1].startswith("logged 4 points of metrics, steps 0 to 3 metrics:")
    assert talk == ""


def test_the_timeline_of_a_model_is_found_by_the_name_it_has_or_had_last(run: Run, story: Story) -> None:
    whole, _ = run("timeline", "model", "leavers")
    assert [line.split()[1] for line in without_times(whole) if line.startswith("registry:")] == [
        "RegisteredModelCreated",
        "RegisteredModelCreated",
        *["ModelVersionCreated"] * 3,
        *["ModelAliasSet"] * 3,
        "ModelVersionDeleted",
        "RegisteredModelRenamed",
    ]
    assert "    alias.prod: 1 -> 3" in whole.splitlines()
    assert "    alias.prod: 3 -> -" in whole.splitlines()
    assert run("timeline", "model", "churn")[0] == whole
    told = json.loads(run("timeline", "model", "leavers", "--json")[0])
    times = [event["position"] for event in told["events"]]
    assert [line.split()[1] for line in whole.splitlines() if not line.startswith(" ")] == times


def test_another_model_that_had_the_name_is_named_with_the_moment_to_ask_as_of(
    servers: ServerPair, run: Run, story: Story
) -> None:
    with servers.client() as client:
        caller = Caller(client)
        for life in ("first", "second"):
            caller.post("registered-models/create", name="reborn", description=life)
            if life == "first":
                client.request("DELETE", f"{API}registered-models/delete", json={"name": "reborn"})
    for command in (("timeline", "model", "reborn"), ("why", "model", "reborn", "description")):
        said, talk = run(*command)
        assert '"second"' in said
        assert '"first"' not in said
        moment = talk.split("--as-of ")[1].strip()
        assert '"first"' in run(*command, "--as-of", moment)[0]


def test_refused_tries_alone_the_newest_first_and_one_kind_alone(run: Run, story: Story) -> None:
    said, _ = run("timeline", "model", "leavers", "--outcome", "rejected", "--newest")
    alias, create = without_times(said)
    assert "ModelAliasSet by anonymous REFUSED model_version_not_found: Model Version (name=churn, version=9)" in alias
    assert "RegisteredModelCreated by anonymous REFUSED model_exists: " in create
    said, _ = run("timeline", "model", "leavers", "--type", "ModelAliasSet", "--outcome", "accepted")
    assert without_times(said)[1::2] == ["alias.prod: - -> 1", "alias.prod: 1 -> 3"]
    said, talk = run("timeline", "model", "leavers", "--type", "ModelVersionStaged")
    assert (said, talk) == ("", "No event is like that.\n")


def test_the_history_of_one_alias_has_the_refused_tries(run: Run, story: Story) -> None:
    said, _ = run("timeline", "model", "leavers", "--field", "alias.prod")
    assert [line.split()[1] for line in without_times(said) if line.startswith("registry:")] == [
        *["ModelAliasSet"] * 3,
        "ModelVersionDeleted",
    ]
    assert "REFUSED" in said


def test_a_timeline_that_is_longer_than_asked_says_how_to_go_on(run: Run, story: Story) -> None:
    whole, _ = run("timeline", "model", "leavers")
    first, talk = run("timeline", "model", "leavers", "--limit", "6")
    assert "There is more" in talk
    more, talk = run("timeline", "model", "leavers", "--limit", "6", "--page-token", talk.split()[-1])
    assert talk == ""
    assert first + more == whole


def test_a_timeline_as_of_a_moment_ends_there_and_the_printed_times_are_moments(run: Run, story: Story) -> None:
    said, _ = run("timeline", "run", story.run, "--as-of", story.moments["tagged"])
    assert without_times(said)[-2] == 'tags.team: - -> "a"'
    at = said.splitlines()[-3].split()[0]
    assert run("timeline", "run", story.run, "--as-of", at)[0] == said


def test_experiments_go_by_name_or_id_and_logged_models_by_id(run: Run, story: Story, refused: Refused) -> None:
    said, _ = run("timeline", "experiment", "speech")
    assert said == run("timeline", "experiment", story.experiment)[0]
    assert '    name: - -> "speech"' in said.splitlines()
    assert "nothing of it" in refused("timeline", "experiment", "nothing of it")
    assert 'status: - -> "PENDING"' in run("timeline", "logged-model", story.logged_model)[0]


def test_an_experiment_goes_by_the_name_that_it_had_then(
    servers: ServerPair, run: Run, story: Story, refused: Refused
) -> None:
    with servers.client() as client:
        caller = Caller(client)
        first = caller.experiment("swapped")
        then = now(client)
        caller.post("experiments/update", experiment_id=first, new_name="swapped before")
        caller.experiment("swapped")
        later = now(client)
    for command, which in ((("timeline", "experiment"), ()), (("why", "experiment"), ("name",))):
        assert run(*command, "swapped", *which)[0] != run(*command, first, *which)[0]
        assert run(*command, "swapped", *which, "--as-of", then)[0] == run(*command, first, *which, "--as-of", then)[0]
        assert "'swapped before' as of experiments:0:" in refused(*command, "swapped before", *which, "--as-of", then)
    changed = run("diff", "experiment", "swapped before", "--from", then, "--to", later)[0]
    assert changed.startswith('name: "swapped" -> "swapped before"')


def test_what_an_event_caused_is_told_below_it(servers: ServerPair, run: Run, story: Story) -> None:
    cause = json.loads(run("timeline", "run", story.run, "--json")[0])["events"][0]
    with servers.client() as client:
        other = Caller(client).run()
        event = TagsSet(run_id=other, tags={"k": "v"})
        record = outgoing(Topic.RUNS, event, writer=f"w-{other}", causation_id=cause["event_id"])
        body, kind = encode_batch([record]), {"content-type": CONTENT_TYPE}
        appended = client.post(f"{NATIVE}/events?wait=outcome", content=body, headers=kind).json()["results"][0]
    said, _ = run("timeline", "run", story.run)
    assert f"    caused {appended['position']} of {other}" in said.splitlines()


def test_why_a_value_is_what_it_is(run: Run, story: Story) -> None:
    said, _ = run("why", "model", "leavers", "alias.prod")
    assert [line.partition(" registry:")[0] for line in without_times(said)] == [
        "alias.prod = -",
        "3 -> -",
        "1 -> 3",
        "- -> 1",
    ]
    assert [line.split()[-3] for line in said.splitlines()[1:]] == [
        "ModelVersionDeleted",
        "ModelAliasSet",
        "ModelAliasSet",
    ]
    then, _ = run("why", "model", "churn", "alias.prod", "--as-of", story.moments["prod was 1"])
    assert then.startswith("alias.prod = 1\n")
    assert json.loads(run("why", "run", story.run, "params.lr", "--json")[0])["value"] == "0.1"
    assert run("why", "run", story.run, "start_time")[0].startswith("start_time = 2026-03-01T12:00:00.000Z\n")


def test_what_differs_between_two_moments(run: Run, story: Story) -> None:
    said, _ = run("diff", "run", story.run, "--from", story.moments["tagged"])
    (line,) = without_times(said)
    assert line.startswith(r'tags.team: "a" -> "two\nlines"')
    assert line.endswith("TagsSet by anonymous")
    told = json.loads(run("diff", "run", story.run, "--from", story.moments["tagged"], "--json")[0])
    assert [change["field"] for change in told["changes"]] == ["tags.team"]
    first = story.moments["prod was 1"]
    said, _ = run("diff", "model", "leavers", "--from", first)
    assert [line.partition("   ")[0] for line in said.splitlines()] == [
        "alias.prod: 1 -> -",
        'name: "churn" -> "leavers"',
        'versions.3.description: "" -> -',
        f'versions.3.run_id: "{story.run}" -> -',
        'versions.3.source: "s3://b/m" -> -',
        'versions.3.stage: "None" -> -',
    ]
    back, _ = run("diff", "model", "leavers", "--from", told["to"], "--to", first)
    assert "alias.prod: - -> 1" in back
    assert run("diff", "model", "churn", "--from", first, "--to", first) == ("", "Nothing differs.\n")


def test_what_is_wrong_is_said_with_what_to_do(run: Run, story: Story, refused: Refused) -> None:
    first = story.moments["prod was 1"]
    for arguments, says in (
        (("timeline", "run", "nobody"), "Run with id=nobody not found"),
        (("timeline", "model", "nobody"), "Registered Model with name=nobody not found"),
        (("timeline", "logged-model", "nobody"), "Logged model with ID 'nobody' not found"),
        (("timeline", "experiment", "999"), "No Experiment with id=999 exists"),
        (("why", "model", "nobody", "name"), "Registered Model with name=nobody not found"),
        (("diff", "run", "nobody", "--from", "2026-01-01"), "Run with id=nobody not found"),
        (("timeline", "run", story.run, "--as-of", "2020-01-01"), f"{story.run} not found as of runs:"),
        (("diff", "model", "leavers", "--from", first, "--to", first), "got this name later was 'churn' then"),
        (("why", "model", "leavers", "name", "--as-of", first), "got this name later was 'churn' then"),
        (("why", "model", "leavers", "alias.prob"), "Fields are: description, name"),
        (("why", "run", story.run, "metrics.loss"), "series:history"),
        (("timeline", "run", story.run, "--as-of", "yesterday"), "'yesterday' for parameter 'as_of'"),
        (("diff", "run", story.run, "--from", "yesterday"), "'yesterday' for parameter 'from' supplied: give a date"),
        (("diff", "run", story.run, "--from", "2026-01-01", "--to", "runs:9:1"), "parameter 'to'"),
        (("diff", "run", story.run, "--from", "2026-01-01", "--to", "2999-01-01"), "'to' supplied: it is ahead"),
        (("timeline", "run", story.run, "--type", "TagSet"), "Did you mean TagsSet"),
        (("timeline", "run", story.run, "--page-token", "nonsense"), "page_token"),
        (("timeline", "run", ""), "name the run"),
        (("timeline", "run", story.run, "--as-of", ""), "--as-of names no moment"),
        (("why", "model", "leavers", "name", "--as-of", " "), "--as-of names no moment"),
        (("diff", "run", story.run, "--from", "2026-01-01", "--to", ""), "--to names no moment"),
    ):
        assert says in refused(*arguments), arguments


def test_as_a_program_it_exits_with_1_and_says_one_line(servers: ServerPair, story: Story) -> None:
    def call(*arguments: str, server: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "runfold_stack", *arguments]
        env = os.environ | {"RUNFOLD_TRACKING_URI": server, "COLUMNS": "80"}
        done: Any = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    code, said, talk = call("why", "model", "leavers", "name", server=servers.uris[0])
    assert (code, said.splitlines()[0], talk) == (0, 'name = "leavers"', "")
    code, said, talk = call("timeline", "run", "nobody", server=servers.uris[0])
    assert (code, said, talk) == (1, "", "error: Run with id=nobody not found\n")
    code, said, talk = call("timeline", "run", "nobody", server="http://127.0.0.1:1")
    assert (code, said, "name it by --server" in talk) == (1, "", True)
