"""New ids and the clock, in one small object, so that tests can make both deterministic."""

import time

import uuid_utils


class Ids:
    """Source of event ids, run ids and times for writers."""

    def event_id(self) -> str:
        """A UUIDv7."""
        return str(uuid_utils.uuid7())

    def run_id(self) -> str:
        """32 hexadecimal digits, as MLflow's, but ordered by time."""
        return str(uuid_utils.uuid7().hex)

    def model_id(self) -> str:
        """`m-` and 32 hexadecimal digits, as MLflow's logged models have them, but ordered by time."""
        return f"m-{uuid_utils.uuid7().hex}"

    def now_ms(self) -> int:
        """Wall clock, ms since the epoch."""
        return time.time_ns() // 1_000_000
