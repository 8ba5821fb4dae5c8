"""Why an event about an experiment is rejected."""

from runfold_projections.core.rejection import RejectionCode


class ExperimentRejection(RejectionCode):
    EXISTS = "experiment_exists"
    NOT_FOUND = "experiment_not_found"
    NOT_ACTIVE = "experiment_not_active"
    TAG_NOT_FOUND = "experiment_tag_not_found"


MEANINGS: dict[RejectionCode, str] = {
    ExperimentRejection.EXISTS: "The name belongs to another experiment, perhaps a deleted one.",
    ExperimentRejection.NOT_FOUND: "No experiment has this id.",
    ExperimentRejection.NOT_ACTIVE: "The experiment is deleted.",
    ExperimentRejection.TAG_NOT_FOUND: "The experiment has no tag of this key.",
}
