"""While one run logs ever new keys, nobody else waits for it: not other runs' writes and searches, nor its own params
and tags.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx2
import pytest

import runfold
from tests.support.installations.installation import Installation
from tests.support.mlflow.caller import Caller

MOST = 1.0
"""Seconds that 99 of 100 calls may take. Measured: see the benchmark `keys`; the machine may be busy."""
Calls = dict[str, list[float]]


def pairs(run: Any) -> None:
    """20,000 calls, 40,000 keys."""
    for n in range(20_000):
        run.log({f"task{n}/acc": 0.5, f"task{n}/loss": 1.0}, step=0)


def singly(run: Any) -> None:
    for n in range(10_000):
        run.log({f"key{n}": 1.0})


def rows_of_64(run: Any) -> None:
    for n in range(900):
        run.log({f"call{n}/key{k}": 1.0 for k in range(64)})


class Others:
    """What others do meanwhile, and how long each call of theirs takes."""

    def __init__(self, client: httpx2.Client) -> None:
        self._call = Caller(client)
        self._numbers = count()
        self._experiment = self._call.experiment("others")
        self._run = self._call.run(experiment_id=self._experiment)
        self._call.post("runs/log-metric", run_id=self._run, key="loss", value=1.0, timestamp=1, step=0)
        self.seconds: Calls = {}
        self.own: str | None = None
        """The id of the run that logs, once it is known."""

    def once(self) -> None:
        """One call of each kind."""
        n = next(self._numbers)
        self._timed("create an experiment", lambda: self._call.experiment(f"other {n}"))
        self._timed("log a param", lambda: self._param(self._run, n))
        self._timed("search", self._search)
        if self.own is not None:
            own = self.own
            self._timed("log a param of that run", lambda: self._param(own, n))

    def _param(self, run_id: str, n: int) -> None:
        self._call.post("runs/log-parameter", run_id=run_id, key=f"p{n}", value="1")

    def _search(self) -> None:
        body: dict[str, Any] = {"experiment_ids": [self._experiment], "order_by": ["metrics.loss DESC"]}
        assert self._call.post("runs/search", **body)["runs"]

    def _timed(self, what: str, do: Callable[[], Any]) -> None:
        began = time.perf_counter()
        do()
        self.seconds.setdefault(what, []).append(time.perf_counter() - began)


@contextmanager
def going_on(others: Others) -> Iterator[None]:
    """They do, until the block ends."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                others.once()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failed, failed


@pytest.mark.parametrize("load", [pairs, singly, rows_of_64])
async def test_others_go_on_while_a_run_logs_ever_new_keys(
    installation: Installation, load: Callable[[Any], None]
) -> None:
    server = installation.server()
    worker = installation.worker()
    with (
        httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as client,
        httpx2.Client(base_url=worker.url, timeout=60, trust_env=False) as health,
    ):
        others = Others(client)
        others.once()
        others.seconds.clear()
        with going_on(others):
            with runfold.run(experiment="keys", tracking_uri=server.url) as run:
                run.flush()
                others.own = run.id
                load(run)
            await installation.settled()
            began = time.perf_counter()
            assert health.get("/health/live").status_code == 200
            assert time.perf_counter() - began < MOST
    for what, found in others.seconds.items():
        found.sort()
        print(f"{what}: {len(found)} calls, p50 {found[len(found) // 2]:.3f} s, most {found[-1]:.3f} s")
        late = [seconds for seconds in found if seconds >= MOST]
        assert len(late) <= max(1, len(found) // 100), (what, late)
