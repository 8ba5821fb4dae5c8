"""Why an event about a toy is rejected."""

from runfold_projections.core.rejection import RejectionCode


class ToyRejection(RejectionCode):
    EXISTS = "toy_exists"
    NOT_FOUND = "toy_not_found"


MEANINGS: dict[RejectionCode, str] = {
    ToyRejection.EXISTS: "A toy of this id was made before.",
    ToyRejection.NOT_FOUND: "There is no such toy, or it is broken.",
}
