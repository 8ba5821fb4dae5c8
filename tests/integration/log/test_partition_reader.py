"""The way from one partition into a worker."""

import pytest

from runfold_consumers.runtime.partition_reader import open_partition
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from tests.support.installations.installation import Installation


async def test_an_error_right_after_the_start_is_not_hidden_by_the_stop(installation: Installation) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            async with open_partition(installation.services.kafka, installation.namespace, Partition(Topic.RUNS, 0)):
                raise ZeroDivisionError
