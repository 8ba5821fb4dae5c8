"""Errors of the projections.

ProjectionError
├── Fenced            another worker moved the checkpoint: drop what is in memory and load again
├── NotMigrated       the control schema is missing or of another release
├── MergeFailed       a compaction failed; the segments stay as they are
├── BadPast           a snapshot can't be created with this name or vector
├── NoSuchPast        there is no snapshot of this name
├── NoSuchGeneration  there is no generation of this number, or none in the required state
├── Busy              another process rebuilds this projection
├── Stalled           a generation makes no progress
├── BadFilter         a caller's search expression is invalid
└── BadQuery          another argument of a query is invalid
"""


class ProjectionError(Exception):
    """Root of the projections' errors."""


class Fenced(ProjectionError):
    """The checkpoint is not where this worker left it. Nothing was changed."""


class NotMigrated(ProjectionError):
    """Run `runfold migrate` with this release first."""


class CompactionFailed(ProjectionError):
    """Segments could not be compacted. They stay as they are, and readable."""


class BadSnapshot(ProjectionError):
    """The name or the vector of a snapshot is taken or malformed."""


class NoSuchSnapshot(ProjectionError):
    """There is no snapshot of this name."""


class NoSuchGeneration(ProjectionError):
    """There is no such generation. The message lists those that exist, or the command that creates one."""


class Busy(ProjectionError):
    """Another process is rebuilding the projection or switching its generations."""


class Stalled(ProjectionError):
    """No worker folds a generation that is waited for. The message shows how far it is."""


class BadFilter(ProjectionError):
    """A filter or order-by expression is invalid. The message is MLflow's where MLflow has one."""


class BadQuery(ProjectionError):
    """An argument of a query is out of range or malformed."""
