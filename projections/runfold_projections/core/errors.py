"""Errors of the projections.

ProjectionError
├── Fenced            somebody else moved the checkpoint: forget what is in memory and load anew
├── LogChanged        the topic is not the one this generation was folded from
├── NotMigrated       the control schema is missing or of another release
├── MergeFailed       segments could not be merged; they stay as they are
├── BadPast           a past can't be made so
├── NoSuchPast        there is no past of this name
├── NoSuchGeneration  there is no generation of this number, or in the state that is needed
├── Busy              another process rebuilds this projection
├── Stalled           a generation does not move on
├── BadFilter         a search expression that a caller sent is not valid
└── BadQuery          another argument of a query is not valid
"""


class ProjectionError(Exception):
    """Root of the projections' errors."""


class Fenced(ProjectionError):
    """The checkpoint is not where this worker left it; nothing was changed."""


class LogChanged(ProjectionError):
    """The log id, the genesis or the end of the log contradicts the checkpoint; the message says how and what to do."""


class NotMigrated(ProjectionError):
    """Run `runfold migrate` with this release first."""


class MergeFailed(ProjectionError):
    """Segments could not be merged; they stay as they are, and readable."""


class BadPast(ProjectionError):
    """The name or the moment of a past is taken, or malformed."""


class NoSuchPast(ProjectionError):
    """There is no past of this name."""


class NoSuchGeneration(ProjectionError):
    """There is no such generation; the message says which there are, or what makes one."""


class Busy(ProjectionError):
    """Another process rebuilds the projection, or switches its generations."""


class Stalled(ProjectionError):
    """Nobody folds a generation that is waited for; the message says how far it is."""


class BadFilter(ProjectionError):
    """A filter or order-by expression that can't be used; the message is MLflow's where MLflow has one."""


class BadQuery(ProjectionError):
    """An argument of a query is out of range or malformed."""
