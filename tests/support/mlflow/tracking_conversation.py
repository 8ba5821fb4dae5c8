"""A long conversation about experiments, runs, metrics and logged models, made by chance from a seed, and what MLflow
3.17.2 answered.

`python -m tests.support.mlflow.tracking_conversation URL` records the answers of a server (MLflow's own, on Postgres)
into `tracking_answers.json`. `<E1>`, `<R1>` and `<M1>` stand for the ids of experiments, runs and logged models.
"""

import json
import random
import re
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

RECORDED = Path(__file__).with_name("tracking_answers.json")
SEEDS = (1, 2, 3)
STEPS = 150
Ask = tuple[str, str, Any]
Send = Callable[[str, str, Any], tuple[int, Any]]

KEYS = ("a", "b", "a/b", "loss", "val loss", "x.y")
TEXTS = ("1", "x", "X", "hello world", "100%", "a_b", "it's", "é")
VALUES = (0, 1, 2.5, -1, 1e300, "Infinity", "-Infinity")
PATTERNS = ("'1'", "'x'", "'%'", "'h%'", "'H%'", "'a_b'", "'%l%'", "'é'", "''")
LISTS = ("('d1', 'd2')", "('g1')", "('train')")
MODEL_WORDS = ("'m1'", "'M%'", "'tree'", "'x'", "''")
TIMES = ("creation_time", "last_update_time", "creation_timestamp_ms", "last_updated_timestamp_ms")
UNORDERED = ("tags", "params", "metrics", "dataset_inputs", "model_inputs", "model_outputs", "dataset_summaries")
CREATED = {"experiments/create": "E", "runs/create": "R", "logged-models": "M"}


class Script:
    """The requests of one seed: the same ones, in the same order, whoever answers."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._counts = dict.fromkeys("ERM", 0)
        self._made: set[tuple[str, str]] = set()

    def requests(self) -> Iterator[Ask]:
        """All of them; in the end everything is read."""
        for _ in range(2):
            yield self._experiment()
        for _ in range(4):
            yield self._run()
        yield self._model()
        kinds = (
            *[self._run, self._model, self._status, self._end, self._deletion, self._experiment_tag, self._input],
            *[self._output, self._model_tags, self._metric, self._history, self._bulk, self._datasets],
            *[self._run_tag, self._untag, self._experiments] * 2,
            *[self._batch, self._model_metric, self._models] * 4,
            *[self._runs] * 8,
        )
        for _ in range(STEPS):
            yield self._random.choice(kinds)()
        for number in range(self._counts["R"]):
            yield "GET", "runs/get", {"run_id": f"<R{number + 1}>"}
        for number in range(self._counts["M"]):
            yield "GET", f"logged-models/<M{number + 1}>", {}

    def _pick(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def _some(self, letter: str) -> str:
        return f"<{letter}{self._random.randint(1, self._counts[letter])}>"

    def _pairs(self) -> list[dict[str, str]]:
        keys = self._random.sample(KEYS, self._random.randint(0, 3))
        return [{"key": key, "value": self._pick(*TEXTS)} for key in keys]

    def _point(self) -> dict[str, Any]:
        return {
            "key": self._pick(*KEYS),
            "value": self._pick(*VALUES),
            "timestamp": self._pick(0, 1, 1000, 1001),
            "step": self._pick(0, 1, 2, -1),
        }

    def _experiment(self) -> Ask:
        self._counts["E"] += 1
        return "POST", "experiments/create", {"name": f"TALK {self._counts['E']}", "tags": self._pairs()}

    def _run(self) -> Ask:
        self._counts["R"] += 1
        number = self._counts["R"]
        start = number * 7 % 101
        name = self._pick("run one", "Run two", "run three")
        return "POST", "runs/create", {
            "experiment_id": self._some("E"), "start_time": start, "user_id": self._pick("ann", "bob", ""),
            "run_name": name, "tags": self._pairs(),
        }  # fmt: skip

    def _model(self) -> Ask:
        self._counts["M"] += 1
        more = {"model_type": self._pick("tree", "net")} if self._pick(True, False) else {}
        source = {"source_run_id": self._some("R")} if self._pick(True, False) else {}
        return "POST", "logged-models", {
            "experiment_id": self._some("E"), "name": self._pick("m1", "M1", "other"), "params": self._pairs(),
            "tags": self._pairs(), **more, **source,
        }  # fmt: skip

    def _status(self) -> Ask:
        model = self._some("M")
        status = self._pick("LOGGED_MODEL_READY", "LOGGED_MODEL_PENDING", "LOGGED_MODEL_UPLOAD_FAILED")
        return "PATCH", f"logged-models/{model}", {"model_id": model, "status": status}

    def _end(self) -> Ask:
        change = {"status": self._pick("FINISHED", "FAILED", "RUNNING", "KILLED"), "end_time": self._pick(5, 500)}
        return "POST", "runs/update", {"run_id": self._some("R"), **self._pick(change, {"run_name": "named anew"})}

    def _deletion(self) -> Ask:
        return "POST", self._pick("runs/delete", "runs/restore", "runs/restore"), {"run_id": self._some("R")}

    def _experiment_tag(self) -> Ask:
        tag = {"key": self._pick(*KEYS), "value": self._pick(*TEXTS)}
        return "POST", "experiments/set-experiment-tag", {"experiment_id": self._some("E"), **tag}

    def _input(self) -> Ask:
        name = self._pick("d1", "D1", "d2")
        data = {"name": name, "digest": self._pick("g1", "g2"), "source_type": "local", "source": f"of {name}"}
        tag = {"key": "mlflow.data.context", "value": self._pick("train", "eval")}
        return "POST", "runs/log-inputs", {"run_id": self._some("R"), "datasets": [{"dataset": data, "tags": [tag]}]}

    def _output(self) -> Ask:
        run, model = self._some("R"), self._some("M")
        if (run, model) in self._made:
            return self._runs()
        self._made.add((run, model))
        return "POST", "runs/outputs", {"run_id": run, "models": [{"model_id": model, "step": self._pick(0, 1, 2)}]}

    def _model_tags(self) -> Ask:
        model = self._some("M")
        return "PATCH", f"logged-models/{model}/tags", {"model_id": model, "tags": self._pairs()}

    def _metric(self) -> Ask:
        return "POST", "runs/log-metric", {"run_id": self._some("R"), **self._point()}

    def _run_tag(self) -> Ask:
        key = self._pick(*KEYS, "mlflow.runName", "mlflow.note.content")
        return "POST", "runs/set-tag", {"run_id": self._some("R"), "key": key, "value": self._pick(*TEXTS)}

    def _untag(self) -> Ask:
        return "POST", "runs/delete-tag", {"run_id": self._some("R"), "key": self._pick(*KEYS)}

    def _batch(self) -> Ask:
        points = [self._point() for _ in range(self._random.randint(0, 5))]
        points += [{"key": "nan", "value": "NaN", "timestamp": 1, "step": 0}] if self._pick(True, False) else []
        more = {"params": self._pairs()} if self._pick(True, False) else {"tags": self._pairs()}
        return "POST", "runs/log-batch", {"run_id": self._some("R"), "metrics": points, **more}

    def _model_metric(self) -> Ask:
        data = {"dataset_name": self._pick("d1", "d2"), "dataset_digest": self._pick("g1", "g2")}
        point = {**self._point(), "model_id": self._some("M"), **self._pick({}, data)}
        return "POST", "runs/log-batch", {"run_id": self._some("R"), "metrics": [point]}

    def _history(self) -> Ask:
        limit = self._pick({}, {"max_results": self._pick(1, 2, 100)})
        return "GET", "metrics/get-history", {"run_id": self._some("R"), "metric_key": self._pick(*KEYS), **limit}

    def _bulk(self) -> Ask:
        runs = [self._some("R") for _ in range(2)]
        return "GET", "metrics/get-history-bulk-interval", {
            "run_ids": runs, "metric_key": self._pick(*KEYS), "max_results": self._pick(1, 2, 3, 100),
            **self._pick({}, {"start_step": self._pick(-1, 0, 1), "end_step": self._pick(1, 2)}),
        }  # fmt: skip

    def _datasets(self) -> Ask:
        return "POST", "experiments/search-datasets", {"experiment_ids": [self._some("E")]}

    def _all(self) -> list[str]:
        return [f"<E{number + 1}>" for number in range(self._counts["E"])]

    def _experiments(self) -> Ask:
        more = self._pick(
            "tags.a = '1'", "tags.`val loss` != 'x'", "tags.b LIKE '%'", "name ILIKE 'talk 1%'", "creation_time > 0",
            "tags.a IS NULL", "tags.a IS NOT NULL", "name != 'x'", "last_update_time < 5", "attribute.name LIKE '%2'",
            "bogus = 'x'", "name = 1", "creation_time = 'x'", "name LIKE '%' OR name = 'x'",
        )  # fmt: skip
        order = self._pick("name", "name DESC", "experiment_id", "experiment_id DESC", "creation_time ASC")
        return "POST", "experiments/search", {
            "filter": f"name LIKE 'TALK %' AND {more}", "order_by": [order], "max_results": self._pick(1, 100),
            "view_type": self._pick("ALL", "ACTIVE_ONLY", "DELETED_ONLY"),
        }  # fmt: skip

    def _runs(self) -> Ask:
        clauses = [self._clause() for _ in range(self._pick(0, 1, 1, 2))]
        key = self._pick(*KEYS)
        order = self._pick(f"metrics.`{key}`", f"params.`{key}`", f"tags.`{key}`", "start_time", "status", "run_name")
        return "POST", "runs/search", {
            "experiment_ids": self._all(), "filter": self._pick(" AND ", " and ").join(clauses),
            "order_by": self._pick([], [order + self._pick("", " ASC", " DESC")]), "max_results": self._pick(1, 3, 100),
            "run_view_type": self._pick("ALL", "ACTIVE_ONLY", "DELETED_ONLY"),
        }  # fmt: skip

    def _clause(self) -> str:
        key = self._pick(*KEYS)
        quoted = f"`{key}`" if " " in key or self._pick(True, False) else key
        number = f"{self._pick('=', '!=', '<', '>', '<=', '>=')} {self._pick('1', '0.5', '-1', '1e3')}"
        text = f"{self._pick('=', '!=', 'LIKE', 'ILIKE', 'like')} {self._pick(*PATTERNS)}"
        listed = f"{self._pick('IN', 'NOT IN')} {self._pick(*LISTS)}"
        return str(
            self._pick(
                f"metrics.{quoted} {number}", f"metric.{quoted} {number}",
                f"params.{quoted} {text}", f"param.{quoted} {self._pick('IS NULL', 'IS NOT NULL', 'is null')}",
                f"tags.{quoted} {text}", f"tag.{quoted} {self._pick('IS NULL', 'IS NOT NULL')}",
                f"datasets.{self._pick('name', 'digest', 'context')} {self._pick(text, listed)}",
                f"attributes.start_time {number}", f"end_time {number}", f"status {text}",
                f"attributes.status {self._pick('=', '!=')} 'FINISHED'", f"run_name {text}", f"user_id {text}",
                f"run_id {self._pick('IN', 'NOT IN')} ('{self._some('R')}', '{self._some('R')}')",
                f"run_id {self._pick('=', '!=')} '{self._some('R')}'",
                f"params.{quoted} > 1", f"metrics.{quoted} = 'x'", f"bogus.{quoted} = '1'", f"start_time {text}",
            )
        )  # fmt: skip

    def _models(self) -> Ask:
        number = f"{self._pick('<', '>', '<=', '>=')} {self._pick('1', '0.5', '-1')}"
        text = f"{self._pick('=', '!=', 'LIKE', 'ILIKE')} {self._pick(*MODEL_WORDS)}"
        clause = self._pick(
            f"metrics.loss {number}", f"metrics.a {number}", f"params.a {text}", f"params.`a/b` {text}",
            f"tags.b {text}",
            f"name {text}", f"model_type {text}", f"source_run_id {text}", f"source_run_id = '{self._some('R')}'",
            "name IN ('m1', 'other')", "model_type NOT IN ('tree')", "creation_timestamp > 5",
        )  # fmt: skip
        data = [{"dataset_name": "d1", "dataset_digest": "g1"}]
        order = {"field_name": self._pick("metrics.a", "metrics.loss", "creation_timestamp"), "ascending": False}
        return "POST", "logged-models/search", {
            "experiment_ids": self._all(), "filter": self._pick("", clause), "order_by": self._pick([], [order]),
            "max_results": self._pick(2, 50), "datasets": self._pick([], [], data),
        }  # fmt: skip


class Talk:
    """One conversation with one server: which ids it gave, and what it said in terms that hold for every server."""

    def __init__(self, send: Send) -> None:
        self._send, self._name = send, f"talk-{uuid.uuid4().hex[:8]}"
        self._ids: dict[str, str] = {}
        self._counts = dict.fromkeys("ERM", 0)

    def say(self, ask: Ask) -> dict[str, Any]:
        """The request and the answer, both with symbols for ids."""
        method, path, body = ask
        given = json.dumps(body).replace("TALK ", f"{self._name} ").replace("talk 1", f"{self._name.upper()} 1")
        for symbol, real in self._ids.items():
            path, given = path.replace(symbol, real), given.replace(symbol, real)
        status, answer = self._send(method, path, json.loads(given))
        if method == "POST" and path in CREATED:
            self._note(CREATED[path], answer)
        return {"ask": title(ask), "status": status, "answer": self._plain(answer)}

    def _note(self, letter: str, answer: Any) -> None:
        self._counts[letter] += 1
        found = {
            "E": lambda: answer["experiment_id"],
            "R": lambda: answer["run"]["info"]["run_id"],
            "M": lambda: answer["model"]["info"]["model_id"],
        }[letter]()
        self._ids[f"<{letter}{self._counts[letter]}>"] = found

    def _plain(self, answer: Any, key: str = "") -> Any:
        if isinstance(answer, dict):
            if key == "metrics" and "run_id" not in answer:
                # A departure: the latest metrics of a run say of what they were measured.
                answer = {k: v for k, v in answer.items() if k not in ("model_id", "dataset_name", "dataset_digest")}
            return {k: self._plain(v, k) for k, v in sorted(answer.items()) if k not in TIMES}
        if isinstance(answer, list):
            if key == "runs":
                return [self._plain(run["info"]["run_id"]) for run in answer]
            if key == "models":
                return [self._plain(model["info"]["model_id"]) for model in answer]
            plain = [self._plain(item, key) for item in answer]
            if key in UNORDERED:
                plain = sorted(_latest(plain), key=json.dumps)
            return plain
        if not isinstance(answer, str):
            return answer
        if key == "next_page_token":
            return "more"
        return self._symbols(answer.replace(self._name, "TALK"), key)

    def _symbols(self, text: str, key: str) -> str:
        for symbol, real in self._ids.items():
            if symbol.startswith("<E"):
                text = re.sub(rf"(?<=mlflow-artifacts:/){real}(?=/|$)", symbol, text)
                text = symbol if key == "experiment_id" and text == real else text
            else:
                text = text.replace(real, symbol)
        head, brace, rest = text.partition("{'")
        if brace:
            words, _, tail = rest.partition("'}")
            listed = "', '".join(sorted(words.split("', '")))
            text = f"{head}{{'{listed}'}}{tail}"
        return text


def _latest(points: list[Any]) -> list[Any]:
    """A departure: of a logged model only the latest points per key, run and data set are shown."""
    if not points or "model_id" not in points[0] or "run_id" not in points[0]:
        return points
    found: dict[tuple[Any, ...], Any] = {}
    for point in sorted(points, key=lambda one: (one["timestamp"], one["step"], one["value"])):
        found[point["key"], point["run_id"], point.get("dataset_name"), point.get("dataset_digest")] = point
    return list(found.values())


def title(ask: Ask) -> str:
    """The request as text."""
    method, path, body = ask
    return f"{method} {path} {json.dumps(body, ensure_ascii=False)}"


def converse(send: Send, seed: int) -> list[dict[str, Any]]:
    """Ask everything of a seed, and answer what was said."""
    talk = Talk(send)
    return [talk.say(ask) for ask in Script(seed).requests()]


def _asker(base: str) -> Send:
    def send(method: str, path: str, body: Any) -> tuple[int, Any]:
        url = f"{base}/ajax-api/2.0/mlflow/{path}"
        data = None if method == "GET" else json.dumps(body).encode()
        query = f"?{urlencode(body, doseq=True)}" if method == "GET" else ""
        request = urllib.request.Request(url + query, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    return send


if __name__ == "__main__":
    talks = {str(seed): converse(_asker(sys.argv[1]), seed) for seed in SEEDS}
    parts = [
        f'"{seed}": [\n' + ",\n".join(json.dumps(line, ensure_ascii=False) for line in talk) + "\n]"
        for seed, talk in talks.items()
    ]
    RECORDED.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
