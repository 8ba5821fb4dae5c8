"""What a fold answers."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class RejectionCode(StrEnum):
    """Why a fold refused an event. A closed set: stored, counted, mapped to errors by APIs."""

    EXPERIMENT_EXISTS = "experiment_exists"
    EXPERIMENT_NOT_FOUND = "experiment_not_found"
    EXPERIMENT_NOT_ACTIVE = "experiment_not_active"
    EXPERIMENT_TAG_NOT_FOUND = "experiment_tag_not_found"
    RUN_EXISTS = "run_exists"
    RUN_NOT_FOUND = "run_not_found"
    RUN_NOT_ACTIVE = "run_not_active"
    PARAM_CHANGED = "param_changed"
    TAG_NOT_FOUND = "tag_not_found"
    LOGGED_MODEL_EXISTS = "logged_model_exists"
    LOGGED_MODEL_NOT_FOUND = "logged_model_not_found"
    LOGGED_MODEL_PARAM_CHANGED = "logged_model_param_changed"
    LOGGED_MODEL_TAG_NOT_FOUND = "logged_model_tag_not_found"
    MODEL_EXISTS = "model_exists"
    MODEL_NOT_FOUND = "model_not_found"
    MODEL_VERSION_NOT_FOUND = "model_version_not_found"
    WEBHOOK_EXISTS = "webhook_exists"
    WEBHOOK_NOT_FOUND = "webhook_not_found"
    PROMOTION_CONDITION_FAILED = "promotion_condition_failed"


@dataclass(frozen=True, slots=True)
class Rejection:
    """The event changes nothing. `details` holds what a caller needs to say it in its own words."""

    code: RejectionCode
    message: str
    details: dict[str, Any] = field(default_factory=dict)
