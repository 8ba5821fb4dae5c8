"""Calls of MLflow's REST as tests write them."""

import itertools
from typing import Any

import httpx2

API = "/api/2.0/mlflow/"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_names = itertools.count()


class Caller:
    """Calls one server, or both in turn."""

    def __init__(self, *clients: httpx2.Client) -> None:
        self._clients = itertools.cycle(clients)

    def post(self, path: str, status: int = 200, /, **body: Any) -> Any:
        return self._read(next(self._clients).post(API + path, json=body), status)

    def get(self, path: str, status: int = 200, /, **query: Any) -> Any:
        return self._read(next(self._clients).get(API + path, params=query), status)

    def run(self, **fields: Any) -> str:
        created = self.post("runs/create", **({"experiment_id": "0", "start_time": 1} | fields))
        return str(created["run"]["info"]["run_id"])

    def experiment(self, name: str | None = None) -> str:
        name = name or f"experiment {next(_names)}"
        return str(self.post("experiments/create", name=name)["experiment_id"])

    @staticmethod
    def _read(answer: httpx2.Response, status: int) -> Any:
        assert answer.status_code == status, answer.text
        return answer.json()
