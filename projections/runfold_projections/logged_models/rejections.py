"""Why an event about a logged model is rejected."""

from runfold_projections.core.rejection import RejectionCode


class LoggedModelRejection(RejectionCode):
    EXISTS = "logged_model_exists"
    NOT_FOUND = "logged_model_not_found"
    PARAM_CHANGED = "logged_model_param_changed"
    TAG_NOT_FOUND = "logged_model_tag_not_found"


MEANINGS: dict[RejectionCode, str] = {
    LoggedModelRejection.EXISTS: "The id belongs to another logged model.",
    LoggedModelRejection.NOT_FOUND: "The workspace has no logged model of this id.",
    LoggedModelRejection.PARAM_CHANGED: (
        "A param of the logged model has another value already; nothing of the event takes effect."
    ),
    LoggedModelRejection.TAG_NOT_FOUND: "The logged model has no tag of this key.",
}
