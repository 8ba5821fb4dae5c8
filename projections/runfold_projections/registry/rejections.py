"""Why an event about a registered model, its versions or aliases is rejected."""

from runfold_projections.core.rejection import RejectionCode


class RegisteredModelRejection(RejectionCode):
    EXISTS = "model_exists"
    NOT_FOUND = "model_not_found"
    VERSION_NOT_FOUND = "model_version_not_found"
    PROMOTION_CONDITION_FAILED = "promotion_condition_failed"


MEANINGS: dict[RejectionCode, str] = {
    RegisteredModelRejection.EXISTS: "The name belongs to another registered model of the workspace.",
    RegisteredModelRejection.NOT_FOUND: "No registered model has this name.",
    RegisteredModelRejection.VERSION_NOT_FOUND: "The registered model has no such version, or not any more.",
    RegisteredModelRejection.PROMOTION_CONDITION_FAILED: (
        "A condition of the promotion does not hold; nothing of it takes effect."
    ),
}
