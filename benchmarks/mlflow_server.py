"""MLflow's own tracking server, for comparison: installed into an environment of its own, on a database of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

PINS = Path(__file__).parents[1] / "requirements" / "bench-mlflow.txt"
DATABASE = "mlflow_bench"
START = 1_700_000_000_000
SEED = (
    """
    INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time)
    VALUES ($1, 'bench ' || $2::integer, 'mlflow-artifacts:/' || $1::integer, 'active', 1, 1)
    """,
    """
    INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,
        end_time, source_version,
                      lifecycle_stage, artifact_uri, experiment_id)
    SELECT md5($1::bigint || '/' || n), 'run-' || n, 'UNKNOWN', '', '', 'user' || n % 7,
           (ARRAY['FAILED', 'RUNNING', 'FINISHED', 'FINISHED', 'FINISHED'])[n % 5 + 1],
           1700000000000 + n * 1000::bigint, 1700000600000 + n * 1000::bigint, '',
               CASE n % 100 WHEN 7 THEN 'deleted' ELSE 'active' END,
           'mlflow-artifacts:/' || $1::integer || '/' || md5($1::bigint || '/' || n) || '/artifacts', $1::integer
    FROM generate_series(1, $2::integer) n
    """,
    """
    INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan)
    SELECT md5($1::bigint || '/' || n), 'm' || k, CASE WHEN n % 97 = 3 THEN 0 ELSE random() END, 1700000000000, 100,
        n % 97 = 3
    FROM generate_series(1, $2::integer) n, generate_series(0, 9) k WHERE k <> 9 OR n % 10 < 7
    """,
    """
    INSERT INTO params (run_uuid, key, value)
    SELECT md5($1::bigint || '/' || n), 'p' || k,
        CASE k WHEN 0 THEN (n % 20)::text WHEN 1 THEN md5(n::text) ELSE (n % (10 * k))::text END
    FROM generate_series(1, $2::integer) n, generate_series(0, 9) k WHERE k <> 9 OR n % 10 < 7
    """,
    """
    INSERT INTO tags (run_uuid, key, value)
    SELECT md5($1::bigint || '/' || n), t.k, t.v
    FROM generate_series(1, $2::integer) n,
         LATERAL (VALUES ('mlflow.runName', 'run-' || n), ('mlflow.user', 'user' || n % 7), ('team',
             'team-' || n % 13)) t (k, v)
    """,
)
"""The same runs as `search.SEED` makes, in MLflow's tables."""


@dataclass(frozen=True)
class Server:
    """A server that answers; `start_seconds` from its start to its first answer."""

    url: str
    pid: int
    start_seconds: float


def environment(folder: Path) -> Path:
    """The `bin` of an environment with MLflow, made on first use; takes minutes then."""
    home = folder / "mlflow-env"
    done = home / ".done"
    if not done.exists() or done.read_text() != PINS.read_text():
        print(f"# installing MLflow's server into {home.name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = [str(home / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([*install, "-r", str(PINS)], check=True)
        done.write_text(PINS.read_text())
    return home / "bin"


async def make_database(dsn: str) -> str:
    """A new database on the Postgres server of `dsn`; answers its address as SQLAlchemy writes it."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {DATABASE}")
        # What the client gave up must not go on beside the next measure.
        await connection.execute(f"ALTER DATABASE {DATABASE} SET statement_timeout = '31s'")
    finally:
        await connection.close()
    parts = urlsplit(dsn)
    return parts._replace(scheme="postgresql+psycopg2", path=f"/{DATABASE}").geturl()


async def seed(uri: str, experiment: int, runs: int) -> None:
    """Fill an experiment."""
    connection = await asyncpg.connect(dsn_of(uri), timeout=60)
    try:
        await connection.execute("SET statement_timeout = 0")
        async with connection.transaction():
            for statement in SEED:
                await connection.execute(statement, experiment, runs, timeout=1800)
        for table in ("runs", "latest_metrics", "params", "tags"):
            await connection.execute(f"VACUUM ANALYZE {table}", timeout=600)
    finally:
        await connection.close()


def dsn_of(uri: str) -> str:
    """The address as asyncpg takes it."""
    parts = urlsplit(uri)
    assert parse_qs(parts.query) or parts.hostname
    return parts._replace(scheme="postgresql").geturl()


@contextmanager
def server(bin_folder: Path, uri: str, artifacts: Path, *, workers: int | None) -> Iterator[Server]:
    """`mlflow server` on a free port; without `workers` it decides itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(bin_folder / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", uri, "--artifacts-destination", str(artifacts)]
    command += ["--workers", str(workers)] if workers else []
    began = time.perf_counter()
    log = artifacts.with_suffix(f".{port}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
        )
    try:
        while not _answers(f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0"):
            if process.poll() is not None or time.perf_counter() - began > 180:
                raise RuntimeError(f"MLflow's server does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield Server(url, process.pid, time.perf_counter() - began)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
