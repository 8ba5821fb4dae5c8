"""The changes of a batch, applied to the files before it, equal its events applied one after another."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from runfold_projections.artifacts.fold import Artifacts, File, OwnedPath, is_below
from runfold_projections.core.projection import Projection
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import read_record
from runfold_schemas.events.artifacts import ArtifactsDeleted, ArtifactStored
from tests.support.histories.generator import cut, history


@given(st.randoms(use_true_random=False), st.integers(0, 80))
def test_batches_cut_anywhere_leave_the_same_files(rng: Random, length: int) -> None:
    raws = history(Projection.RUNS, rng, length)
    plain: dict[OwnedPath, File] = {}
    batched: dict[OwnedPath, File] = {}
    for batch in cut(rng, raws):
        changes = Artifacts()
        for raw in batch:
            record = read_record(raw, released_catalog(), 1)
            event = record.event
            if isinstance(event, ArtifactStored):
                file = (event.size, event.sha256, event.object_key, record.envelope.time_ms)
                plain[event.owner, event.path] = file
            elif isinstance(event, ArtifactsDeleted):
                plain = {
                    (owner, path): file
                    for (owner, path), file in plain.items()
                    if owner != event.owner or not is_below(path, event.path)
                }
            if isinstance(event, (ArtifactStored, ArtifactsDeleted)):
                changes.fold(event, record.envelope.time_ms)
        for gone_owner, gone in changes.deleted:
            for owner, path in list(batched):
                if owner == gone_owner and is_below(path, gone):
                    del batched[owner, path]
        batched.update(changes.stored)
        assert batched == plain
