"""Events of the files of runs and folders, on the `runs` topic. Field meanings are in the `.avsc` files."""

from typing import Annotated

from pydantic import AfterValidator, Field

from .artifact_paths import MAX_OWNER_BYTES, MAX_PATH_BYTES, check_path
from .base import INT64, Fact, Text, fits

Owner = Annotated[Text, Field(min_length=1), AfterValidator(fits(MAX_OWNER_BYTES))]
ArtifactPath = Annotated[Text, AfterValidator(check_path), AfterValidator(fits(MAX_PATH_BYTES))]


class ArtifactFact(Fact):
    """Base of the events about files of an owner: a run, or a folder of the artifact store (see `artifact_paths`)."""

    owner: Owner
    path: ArtifactPath

    @property
    def entity(self) -> str | None:
        return self.owner


class ArtifactStored(ArtifactFact):
    subject = "runfold.runs.ArtifactStored"
    size: Annotated[int, Field(ge=0, lt=INT64)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    object_key: Annotated[Text, Field(min_length=1, max_length=1000)]


class ArtifactsDeleted(ArtifactFact):
    subject = "runfold.runs.ArtifactsDeleted"


EVENTS: tuple[type[Fact], ...] = (
    ArtifactStored,
    ArtifactsDeleted,
)
"""Event classes of this module."""
