"""Write the golden record of every released event version that has none yet. What is there is never touched.

A golden record says what the bytes of a released version mean, for ever. If a test against it fails, the code is wrong.
Run it after a new version was released: `python tests/golden/write_goldens.py`.
"""

import json
import sys
from array import array
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runfold_schemas.codec import wire
from runfold_schemas.codec.catalog import Catalog, Released
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.events.all_events import FACTS, Event, as_json
from runfold_schemas.events.frames import Frame
from runfold_schemas.events.metrics import MetricsLogged

FOLDER = Path(__file__).parent / "events"
RUN = "0197f0c2a6b07d1e8c3f5a9b2d4e6f80"

SAMPLES: dict[str, dict[str, Any]] = {
    "runfold.log.Genesis": {"log_id": "log-1", "topic": "runs", "partition": 3, "partition_count": 8},
    "runfold.system.SchemaDeclared": {
        "schema_id": 15,
        "subject": "runfold.runs.TagsSet",
        "version": 1,
        "level": 1,
        "schema": '{"type": "record", "name": "TagsSet", "fields": []}',
        "topics": ["runs"],
    },
    "runfold.system.FeatureLevelRaised": {"level": 2, "release": "0.2.0"},
    "runfold.experiments.ExperimentCreated": {
        "name": "Größe 測試 🧪",
        "artifact_location": "s3://bucket/experiments",
        "tags": {"team": "vision", "mlflow.note.content": "first\nsecond"},
    },
    "runfold.experiments.ExperimentRenamed": {"experiment_id": 7, "name": "renamed"},
    "runfold.experiments.ExperimentDeleted": {"experiment_id": 7},
    "runfold.experiments.ExperimentRestored": {"experiment_id": 2**63 - 1},
    "runfold.experiments.ExperimentTagsSet": {"experiment_id": 0, "tags": {"a": "", "b": "ß"}},
    "runfold.experiments.ExperimentTagsDeleted": {"experiment_id": 7, "keys": ["a", "b"]},
    "runfold.runs.RunCreated": {
        "run_id": RUN,
        "experiment_id": 7,
        "name": "brave-owl-12",
        "user_id": "ada",
        "start_ms": 1_700_000_000_123,
        "artifact_uri": "s3://bucket/7/run",
        "tags": {"mlflow.source.name": "train.py"},
    },
    "runfold.runs.RunUpdated": {"run_id": RUN, "status": "FINISHED", "end_ms": 1_700_000_060_456, "name": None},
    "runfold.runs.RunDeleted": {"run_id": RUN},
    "runfold.runs.RunRestored": {"run_id": RUN},
    "runfold.runs.ParamsLogged": {"run_id": RUN, "params": {"lr": "0.001", "layers": "[64, 64]"}},
    "runfold.runs.TagsSet": {"run_id": RUN, "tags": {"stage": "dev", "κλειδί": "τιμή"}},
    "runfold.runs.TagsDeleted": {"run_id": RUN, "keys": ["stage"]},
    "runfold.runs.InputsLogged": {
        "run_id": RUN,
        "datasets": [
            {
                "name": "iris",
                "digest": "a1b2",
                "source_type": "http",
                "source": "https://example.org/iris.csv",
                "schema": "{}",
                "profile": None,
                "tags": {"mlflow.data.context": "training"},
            }
        ],
        "models": ["m-1"],
    },
    "runfold.runs.OutputsLogged": {
        "run_id": RUN,
        "models": [
            {"model_id": "m-0197f0c2a6b07d1e8c3f5a9b2d4e6f80", "step": 2**63 - 1},
            {"model_id": "größe", "step": -1},
        ],
    },
    "runfold.registry.LoggedModelCreated": {
        "model_id": "m-0197f0c2a6b07d1e8c3f5a9b2d4e6f80",
        "experiment_id": 7,
        "name": "größe",
        "artifact_uri": "mlflow-artifacts:/7/models/m-0197f0c2a6b07d1e8c3f5a9b2d4e6f80/artifacts",
        "model_type": None,
        "source_run_id": RUN,
        "params": {"lr": "0.001"},
        "tags": {"κλειδί": "τιμή"},
    },
    "runfold.registry.LoggedModelParamsLogged": {"model_id": "m-1", "params": {"lr": "0.001", "layers": "[64, 64]"}},
    "runfold.registry.LoggedModelFinalized": {"model_id": "m-1", "status": "READY"},
    "runfold.registry.LoggedModelTagsSet": {
        "model_id": "m-1",
        "tags": {"mlflow.modelVersions": '[{"name": "größe", "version": 3}]'},
    },
    "runfold.registry.LoggedModelTagsDeleted": {"model_id": "m-1", "keys": ["a", "κλειδί"]},
    "runfold.registry.LoggedModelDeleted": {"model_id": "m-1"},
    "runfold.runs.ModelLogged": {
        "run_id": RUN,
        "model": '{"artifact_path": "größe", "run_id": "r", "flavors": {"sklearn": {"sklearn_version": "1.9"}}}',
    },
    "runfold.runs.ArtifactStored": {
        "owner": RUN,
        "path": "plots/größe 1.png",
        "size": 5_000_000_000,
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "object_key": "runfold/artifacts/0197f0c2-a6b0-7d1e-8c3f-5a9b2d4e6f80",
    },
    "runfold.metrics.AttemptStarted": {"run_id": RUN, "start_step": 8000, "all_ranks": True, "world_size": 4096},
    "runfold.metrics.RunRewound": {"run_id": RUN, "step": -(2**63), "all_ranks": False},
    "runfold.metrics.RunForked": {
        "run_id": RUN,
        "parent_run_id": "0197f0c2a6b07d1e8c3f5a9b2d4e6f7f",
        "parent_branch": 3,
        "step": 8000,
    },
    "runfold.registry.RegisteredModelCreated": {
        "name": "Größe 測試 🧪",
        "description": "first\nsecond",
        "tags": {"team": "vision", "mlflow.prompt.is_prompt": "true"},
    },
    "runfold.registry.RegisteredModelDescribed": {"name": "churn", "description": None},
    "runfold.registry.RegisteredModelRenamed": {"name": "churn", "new_name": "churn v2"},
    "runfold.registry.RegisteredModelDeleted": {"name": "churn"},
    "runfold.registry.RegisteredModelTagsSet": {"name": "churn", "tags": {"a": "", "b": "ß"}},
    "runfold.registry.RegisteredModelTagsDeleted": {"name": "churn", "keys": ["a", "b"]},
    "runfold.registry.WebhookCreated": {
        "webhook_id": "0198c0de-hook",
        "name": "größe",
        "url": "https://example.org/hook?a=b",
        "kinds": ["model_version.created", "runfold.registry.*"],
        "description": None,
        "active": True,
    },
    "runfold.registry.WebhookUpdated": {"webhook_id": "w", "url": "https://example.org/", "active": False},
    "runfold.registry.WebhookDeleted": {"webhook_id": "w"},
    "runfold.registry.ModelAliasSet": {"name": "churn", "alias": "größe-1", "version": 2**31 - 1},
    "runfold.registry.ModelAliasDeleted": {"name": "churn", "alias": "v1"},
    "runfold.registry.ModelVersionCreated": {
        "name": "churn",
        "source": "models:/m-1",
        "storage_location": "mlflow-artifacts:/7/models/m-1/artifacts",
        "run_id": RUN,
        "run_link": "https://example.org/runs/1",
        "model_id": "m-1",
        "description": "größer",
        "tags": {"stage": "dev"},
    },
    "runfold.registry.ModelVersionDescribed": {"name": "churn", "version": 3, "description": "größer"},
    "runfold.registry.ModelVersionStaged": {
        "name": "churn",
        "version": 3,
        "stage": "Production",
        "archive_existing": True,
    },
    "runfold.registry.ModelVersionDeleted": {"name": "churn", "version": 3},
    "runfold.registry.ModelVersionTagsSet": {"name": "churn", "version": 3, "tags": {"κλειδί": "τιμή"}},
    "runfold.registry.ModelVersionTagsDeleted": {"name": "churn", "version": 3, "keys": ["κλειδί"]},
    "runfold.registry.ModelsPromoted": {
        "conditions": [
            {"name": "churn", "alias": "prod", "version": 7, "stage": None},
            {"name": "churn", "alias": None, "version": 8, "stage": "Staging"},
            {"name": "fraud", "alias": "prod", "version": None, "stage": None},
        ],
        "moves": [
            {"name": "churn", "version": 8, "alias": "prod", "stage": "Production", "archive_existing": True},
            {"name": "fraud", "version": None, "alias": "shadow", "stage": None, "archive_existing": False},
        ],
        "comment": "größer, and agreed",
    },
    "runfold.runs.ArtifactsDeleted": {"owner": "1/models/m-1/artifacts", "path": "plots"},
}
METRICS = MetricsLogged(
    RUN,
    (
        Frame(
            ("loss", "acc/größe"),
            array("q", [0, 1, -(2**63), 2**63 - 1]),
            array("q", [1_700_000_000_000, 1_700_000_000_137, 1_700_000_000_000, -1]),
            array("d", [0.5, 0.1, float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7976931348623157e308]),
        ),
        Frame(("eval",), array("q", [10]), array("q", [1_700_000_001_000]), array("d", [0.25]), "m-1", "iris", "a1b2"),
    ),
)
ENVELOPES = (
    Envelope("0197f0c2-a6b0-7d1e-8c3f-5a9b2d4e6f80", "", 1_700_000_000_123, Writer("w-1"), 0),
    Envelope(
        "0197f0c2-a6b0-7d1e-8c3f-5a9b2d4e6f81",
        "",
        1_700_000_000_456,
        Writer("w-2", "node-1", 3, "attempt-9"),
        41,
        "team-a",
        "user:ada",
        correlation_id="c-1",
        causation_id="0197f0c2-a6b0-7d1e-8c3f-5a9b2d4e6f80",
        key_id="k-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
)


def sample(subject: str) -> Event:
    """The event that stands for a subject."""
    return METRICS if subject == MetricsLogged.subject else FACTS[subject].model_validate(SAMPLES[subject])


def golden(schema: Released, catalog: Catalog) -> dict[str, Any]:
    """The record as JSON: value in hex, headers, and what both decode to."""
    older = Catalog(s for s in catalog.by_id.values() if s.subject != schema.subject or s.version <= schema.version)
    value = wire.encode(sample(schema.subject), schema.level, older)
    if wire.schema_id_of(value) != schema.schema_id:
        raise SystemExit(f"{schema.subject} v{schema.version} can't be written: a newer version has the same level")
    plain = ENVELOPES[schema.schema_id % len(ENVELOPES)]
    envelope = Envelope(**{**{name: getattr(plain, name) for name in asdict(plain)}, "type": schema.subject})
    return {
        "subject": schema.subject,
        "version": schema.version,
        "schema_id": schema.schema_id,
        "value": value.hex(),
        "headers": [[name, text.decode()] for name, text in envelope.headers()],
        "envelope": asdict(envelope),
        "event": as_json(wire.decode(value, catalog)),
    }


def main() -> int:
    """Add what is missing; say what was added."""
    catalog = Catalog.load()
    FOLDER.mkdir(exist_ok=True)
    for schema in catalog.by_id.values():
        path = FOLDER / f"{schema.subject}.v{schema.version}.json"
        if not path.exists():
            text = json.dumps(golden(schema, catalog), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
            # "x": even a race can't overwrite a golden.
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            print(f"added {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
