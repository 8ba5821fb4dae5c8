"""How MLflow's histories show a run that several ranks wrote: said by a tag of the run, or of its experiment for all of
its runs.
"""

from enum import StrEnum

REDUCTION_TAG = "runfold.rankReduction"


class Reduction(StrEnum):
    """What becomes of the ranks' points of one step: one point with this value, or (ALL) every point of every rank."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    MEDIAN = "median"
    SUM = "sum"
    FIRST = "first"
    ALL = "all"


def reduction_of(value: str | None) -> Reduction:
    """What a tag's value asks for. ALL without one, and for a word that is none of these: clients may log any tag."""
    return Reduction(value) if value in set(Reduction) else Reduction.ALL
