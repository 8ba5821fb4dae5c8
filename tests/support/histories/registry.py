"""Generated events of the registry: few names, numbers and aliases, so that everything collides."""

from collections.abc import Callable
from random import Random

from runfold_schemas.events.all_events import Event
from runfold_schemas.events.registered_models import (
    ModelAliasDeleted,
    ModelAliasSet,
    ModelsPromoted,
    ModelVersionCreated,
    ModelVersionDeleted,
    ModelVersionDescribed,
    ModelVersionStaged,
    ModelVersionTagsDeleted,
    ModelVersionTagsSet,
    PromotionCondition,
    PromotionMove,
    RegisteredModelCreated,
    RegisteredModelDeleted,
    RegisteredModelDescribed,
    RegisteredModelRenamed,
    RegisteredModelTagsDeleted,
    RegisteredModelTagsSet,
    Stage,
)
from tests.support.histories.logged_models import logged_model_event

NAMES = ("m1", "m2", "ü")
ALIASES = ("prod", "Prod", "ü-1")
STAGES: tuple[Stage, ...] = ("None", "Staging", "Production", "Archived")
TAGS = ("a", "ü", "mlflow.prompt.is_prompt")
TEXTS = ("", "1", "true", "ü")


def registry_event(rng: Random) -> Event:
    """Any event of the registry's topic."""
    return rng.choice(KINDS)(rng)


def _tags(rng: Random) -> dict[str, str]:
    return {key: rng.choice(TEXTS) for key in rng.sample(TAGS, rng.randint(0, 3))}


def _keys(rng: Random) -> list[str]:
    return rng.sample(TAGS, rng.randint(0, 2))


def _model(rng: Random) -> Event:
    name, text = rng.choice(NAMES), rng.choice([None, *TEXTS])
    match rng.randint(0, 8):
        case 0 | 1 | 2:
            return RegisteredModelCreated(name=name, description=text, tags=_tags(rng))
        case 3:
            return RegisteredModelDescribed(name=name, description=text)
        case 4 | 5:
            return RegisteredModelRenamed(name=name, new_name=rng.choice(NAMES))
        case 6:
            return RegisteredModelDeleted(name=name)
        case 7:
            return RegisteredModelTagsSet(name=name, tags=_tags(rng))
    return RegisteredModelTagsDeleted(name=name, keys=_keys(rng))


def _version(rng: Random) -> Event:
    name, version, text = rng.choice(NAMES), rng.randint(1, 5), rng.choice([None, *TEXTS])
    match rng.randint(0, 9):
        case 0 | 1 | 2 | 3:
            return ModelVersionCreated(
                name=name,
                source=rng.choice(["s3://b/1", "models:/m-1"]),
                storage_location=rng.choice([None, "s3://b/2"]),
                run_id=text,
                run_link=text,
                model_id=rng.choice([None, "m-1"]),
                description=text,
                tags=_tags(rng),
            )
        case 4:
            return ModelVersionDescribed(name=name, version=version, description=text)
        case 5 | 6:
            return ModelVersionStaged(
                name=name, version=version, stage=rng.choice(STAGES), archive_existing=rng.random() < 0.5
            )
        case 7:
            return ModelVersionDeleted(name=name, version=version)
        case 8:
            return ModelVersionTagsSet(name=name, version=version, tags=_tags(rng))
    return ModelVersionTagsDeleted(name=name, version=version, keys=_keys(rng))


def _alias(rng: Random) -> Event:
    name, alias = rng.choice(NAMES), rng.choice(ALIASES)
    if rng.random() < 0.3:
        return ModelAliasDeleted(name=name, alias=alias)
    return ModelAliasSet(name=name, alias=alias, version=rng.randint(1, 4))


def _promotion(rng: Random) -> Event:
    return ModelsPromoted(
        conditions=[_condition(rng) for _ in range(rng.choice([0, 0, 1, 2]))],
        moves=[_move(rng) for _ in range(rng.randint(1, 3))],
        comment=rng.choice(TEXTS),
    )


def _condition(rng: Random) -> PromotionCondition:
    name, version = rng.choice(NAMES), rng.randint(1, 4)
    match rng.randint(0, 2):
        case 0:
            return PromotionCondition(name=name, alias=rng.choice(ALIASES), version=rng.choice([None, version]))
        case 1:
            return PromotionCondition(name=name, version=version, stage=rng.choice([None, *STAGES]))
    return PromotionCondition(name=name)


def _move(rng: Random) -> PromotionMove:
    name, version, alias = rng.choice(NAMES), rng.randint(1, 4), rng.choice(ALIASES)
    match rng.randint(0, 2):
        case 0:
            return PromotionMove(name=name, alias=alias, version=rng.choice([None, version]))
        case 1:
            return PromotionMove(name=name, version=version, stage=rng.choice(STAGES))
    return PromotionMove(
        name=name, version=version, alias=alias, stage=rng.choice(["Staging", "Production"]), archive_existing=True
    )


KINDS: tuple[Callable[[Random], Event], ...] = (_model, _version, _version, _alias, _promotion, logged_model_event)
"""One function per kind of event; the more often it stands here, the more often it happens."""
