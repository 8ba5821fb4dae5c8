"""Write the golden logs of a release that has none yet. What is there is never touched.

A golden log holds every kind of outcome: accepted, rejected with each code, duplicate, set aside. If folding it gives
other rows one day, the code is wrong: released rules do not change. Run after a release changed schemas or rules:
`python -m tests.golden.write_golden_logs NAME [PROJECTION…]`.
"""

import asyncio
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from random import Random

from runfold_projections.control.migrations import migrate
from runfold_projections.core.projection import Projection
from runfold_schemas.codec.record import Raw
from runfold_schemas.events.experiments import (
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentRenamed,
    ExperimentTagsDeleted,
    ExperimentTagsSet,
)
from runfold_schemas.events.logged_models import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
)
from runfold_schemas.events.registered_models import (
    ModelAliasSet,
    ModelsPromoted,
    ModelVersionCreated,
    PromotionCondition,
    PromotionMove,
    RegisteredModelCreated,
)
from runfold_schemas.events.runs import ModelOutput, OutputsLogged, ParamsLogged, RunCreated, RunDeleted, TagsDeleted
from runfold_schemas.events.webhooks import WebhookCreated, WebhookDeleted, WebhookUpdated
from runfold_schemas.positions.position import Partition, Position
from runfold_stack.embedded import embedded_stack
from tests.support.histories.generator import Scribe, history
from tests.support.histories.golden_log import FOLDER, fold_log, write

LENGTH = 150


def golden_records(projection: Projection) -> list[Raw]:
    """A generated history, then each rejection once, then records that are set aside."""
    scribe = Scribe(Partition(projection.topic, 0))
    scribe.log = history(projection, Random(20261124), LENGTH)
    scribe.sequences = {}
    for raw in _deliberate(projection):
        scribe.log.append(replace(raw, position=Position(*scribe.where, len(scribe.log))))
    good = scribe.log[5]
    for value in (None, b"", b"\x01garbage", b"\x00\x7f\xff\xff\xff", good.value and good.value + b"\x00"):
        at = Position(*scribe.where, len(scribe.log))
        scribe.log.append(replace(good, position=at, value=value))
    # Without its first header, and with a key that is not the event's.
    scribe.log.append(replace(good, position=Position(*scribe.where, len(scribe.log)), headers=good.headers[1:]))
    scribe.log.append(replace(good, position=Position(*scribe.where, len(scribe.log)), key=b"another"))
    return scribe.log


def _deliberate(projection: Projection) -> list[Raw]:
    """Events of a writer of their own that meet each rejection code of the projection."""
    scribe = Scribe(Partition(projection.topic, 0))
    scribe.sequences = {("default", "w0"): 10_000, ("golden", "w0"): 0}
    if projection is Projection.EXPERIMENTS:
        for event in (
            ExperimentCreated(name="golden"),
            ExperimentCreated(name="golden"),
            ExperimentRenamed(experiment_id=10**6, name="nothing"),
            ExperimentTagsDeleted(experiment_id=0, keys=["never set"]),
            ExperimentDeleted(experiment_id=0),
            ExperimentDeleted(experiment_id=0),
            ExperimentTagsSet(experiment_id=0, tags={"a": "b"}),
        ):
            scribe.append(event)
    if projection is Projection.RUNS:
        created = RunCreated(run_id="golden", experiment_id=1, name="n", start_ms=1, artifact_uri="u", tags={"t": "1"})
        for run_event in (
            ParamsLogged(run_id="golden", params={"early": "1"}),
            created,
            created,
            created.model_copy(update={"experiment_id": 2}),
            ParamsLogged(run_id="golden", params={"a": "1"}),
            ParamsLogged(run_id="golden", params={"a": "2", "b": "3"}),
            TagsDeleted(run_id="golden", keys=["never set"]),
            OutputsLogged(run_id="golden", models=[ModelOutput(model_id="m-1", step=step) for step in (1, 2, 1)]),
            RunDeleted(run_id="golden"),
            ParamsLogged(run_id="golden", params={"late": "1"}),
        ):
            scribe.append(run_event)
    if projection is Projection.REGISTRY:
        logged = LoggedModelCreated(model_id="golden", experiment_id=1, name="n", artifact_uri="u", params={"lr": "1"})
        prod = PromotionMove(name="golden", alias="prod", version=1)
        told = ["runfold.registry.ModelVersionCreated", "runfold.registry.ModelAliasSet"]
        webhook = WebhookCreated(webhook_id="golden", name="ci", url="https://ci.example/hook", kinds=told)
        for model_event in (
            RegisteredModelCreated(name="golden"),
            RegisteredModelCreated(name="golden"),
            ModelVersionCreated(name="nothing", source="s3://b/m"),
            ModelVersionCreated(name="golden", source="s3://b/m"),
            ModelAliasSet(name="golden", alias="prod", version=2),
            ModelsPromoted(conditions=[PromotionCondition(name="golden", alias="prod", version=1)], moves=[prod]),
            ModelsPromoted(conditions=[PromotionCondition(name="golden", alias="prod")], moves=[prod]),
            LoggedModelDeleted(model_id="golden"),
            logged,
            logged,
            LoggedModelParamsLogged(model_id="golden", params={"lr": "2"}),
            LoggedModelTagsDeleted(model_id="golden", keys=["never set"]),
            WebhookUpdated(webhook_id="golden", name="early"),
            webhook,
            webhook,
            WebhookUpdated(webhook_id="golden", active=False),
            WebhookDeleted(webhook_id="golden"),
            WebhookUpdated(webhook_id="golden", name="late"),
        ):
            scribe.append(model_event)
    # Event ids must not repeat those of the generated history.
    return [
        replace(raw, headers=[(n, b"0197f0c2-0000-7000-8000-%012d" % i if n == "ce_id" else v) for n, v in raw.headers])
        for i, raw in enumerate(scribe.log)
    ]


async def main(name: str, projections: list[Projection]) -> None:
    """Fold the records with this release and keep both."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        async with embedded_stack(Path(directory), kafka=False) as stack:
            dsn = stack.endpoints.postgres
            assert dsn is not None
            await migrate(dsn, "golden")
            for projection in projections:
                path = FOLDER / f"{name}-{projection.value}.json"
                if path.exists():
                    print(f"{path.name} is there and stays as it is")
                    continue
                raws = golden_records(projection)
                write(path, projection, raws, await fold_log(dsn, "golden", projection, [raws]))
                print(f"{path.name}: {len(raws)} records")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], [Projection(word) for word in sys.argv[2:]] or list(Projection)))
