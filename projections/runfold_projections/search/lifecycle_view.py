"""Which lifecycle stages a search shows."""

from enum import Enum


class ViewType(Enum):
    """MLflow's view types."""

    ACTIVE_ONLY = "active_only"
    DELETED_ONLY = "deleted_only"
    ALL = "all"
