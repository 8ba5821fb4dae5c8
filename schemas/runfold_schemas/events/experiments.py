"""Events of experiments. Field meanings are in the `.avsc` files."""

from .base import ExperimentId, Fact, Key, Name, Strings, Text


class ExperimentCreated(Fact):
    subject = "runfold.experiments.ExperimentCreated"
    name: Name
    artifact_location: Text | None = None
    tags: Strings = {}


class ExperimentFact(Fact):
    """Base of the events about an experiment that exists."""

    experiment_id: ExperimentId


class ExperimentRenamed(ExperimentFact):
    subject = "runfold.experiments.ExperimentRenamed"
    name: Name


class ExperimentDeleted(ExperimentFact):
    subject = "runfold.experiments.ExperimentDeleted"


class ExperimentRestored(ExperimentFact):
    subject = "runfold.experiments.ExperimentRestored"


class ExperimentTagsSet(ExperimentFact):
    subject = "runfold.experiments.ExperimentTagsSet"
    tags: Strings


class ExperimentTagsDeleted(ExperimentFact):
    subject = "runfold.experiments.ExperimentTagsDeleted"
    keys: list[Key]


EVENTS: tuple[type[Fact], ...] = (
    ExperimentCreated,
    ExperimentRenamed,
    ExperimentDeleted,
    ExperimentRestored,
    ExperimentTagsSet,
    ExperimentTagsDeleted,
)
"""Event classes of this module."""
