"""Generated events about logged models: few ids, keys and values, so that everything collides."""

from random import Random

from runfold_schemas.events.all_events import Event
from runfold_schemas.events.logged_models import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelFinalized,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
    ModelStatus,
)

MODELS = ("m-1", "m-2", "m-3")
KEYS = ("a", "b", "ü")
TEXTS = ("", "1", "ü")
STATUSES: tuple[ModelStatus, ...] = ("PENDING", "READY", "FAILED")


def logged_model_event(rng: Random) -> Event:
    """Any event about a logged model."""
    model_id = rng.choice(MODELS)
    match rng.randint(0, 9):
        case 0 | 1 | 2:
            return LoggedModelCreated(
                model_id=model_id,
                experiment_id=rng.randint(0, 2),
                name=rng.choice(["n", "ü"]),
                artifact_uri="s3://b/1",
                model_type=rng.choice([None, *TEXTS]),
                source_run_id=rng.choice([None, "r1"]),
                params=_pairs(rng),
                tags=_pairs(rng),
            )
        case 3 | 4:
            return LoggedModelParamsLogged(model_id=model_id, params=_pairs(rng))
        case 5:
            return LoggedModelFinalized(model_id=model_id, status=rng.choice(STATUSES))
        case 6 | 7:
            return LoggedModelTagsSet(model_id=model_id, tags=_pairs(rng))
        case 8:
            return LoggedModelTagsDeleted(model_id=model_id, keys=rng.sample(KEYS, rng.randint(0, 2)))
    return LoggedModelDeleted(model_id=model_id)


def _pairs(rng: Random) -> dict[str, str]:
    return {key: rng.choice(TEXTS) for key in rng.sample(KEYS, rng.randint(0, 3))}
