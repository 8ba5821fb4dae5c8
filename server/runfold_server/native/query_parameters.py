"""Parameters that several native reads have: what they wait for, and pages."""

from typing import Literal

from runfold_server.reads.reader import Consistency

ConsistencyName = Literal["strong", "eventual"]
"""`Consistency` as a request has it."""
STRONG: ConsistencyName = "strong"
EVENTUAL: ConsistencyName = "eventual"
assert {STRONG, EVENTUAL} == set(Consistency)


def next_page(found: int, limit: int, offset: int) -> dict[str, int]:
    """Return `next_offset` of the following page, or nothing on the last page.

    `found` counts rows fetched with `limit + 1`.
    """
    return {"next_offset": offset + limit} if found > limit > 0 else {}
