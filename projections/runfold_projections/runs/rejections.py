"""Why an event about a run is rejected."""

from runfold_projections.core.rejection import RejectionCode


class RunRejection(RejectionCode):
    EXISTS = "run_exists"
    NOT_FOUND = "run_not_found"
    NOT_ACTIVE = "run_not_active"
    PARAM_CHANGED = "param_changed"
    TAG_NOT_FOUND = "tag_not_found"


MEANINGS: dict[RejectionCode, str] = {
    RunRejection.EXISTS: "The run was created before, in another experiment.",
    RunRejection.NOT_FOUND: "No run has this id.",
    RunRejection.NOT_ACTIVE: "The run is deleted.",
    RunRejection.PARAM_CHANGED: "A param has another value already; nothing of the event takes effect.",
    RunRejection.TAG_NOT_FOUND: "The run has no tag of this key.",
}
