"""Recovery of orphaned spools: spools whose process is gone are claimed and sent by a later process."""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runfold.errors import SdkError
from runfold.settings import Settings
from runfold.spool import layout
from runfold.spool.reader import SpoolReader

from .outbox import Outbox
from .sender import Sender

_log = logging.getLogger("runfold")
MAX_CLAIMED = 64
"""How many spools one process claims at a time. Each keeps a lock file open."""
_WAIT_SECONDS = 5.0


@dataclass(slots=True)
class OrphanedSpool:
    """A spool without an owner, claimed by this process."""

    directory: Path
    info: layout.SpoolInfo
    outbox: Outbox
    points: int
    facts: int
    lock: layout.SpoolLock
    live_original: Path | None = None
    """The spool of a live process that this one is a copy of."""

    @property
    def is_finished(self) -> bool:
        """Whether everything was delivered, or nothing more can be."""
        return self.outbox.drained or bool(self.outbox.blocked)

    def release(self, sender: Sender) -> bool:
        """End the claim, and return whether everything was delivered. The files are removed in that case."""
        sender.remove(self.outbox)
        delivered = self.outbox.drained and not self.outbox.blocked
        if delivered:
            self.outbox.remove_files()
        self.lock.release()
        return delivered


def claim(directory: Path) -> OrphanedSpool | None:
    """Claim a spool. None if its process lives or another one sends it; SdkError if this release can't read it."""
    lock = layout.SpoolLock.acquire(directory, create=(directory / layout.ABOUT).is_file())
    if lock is None:
        return None
    try:
        info = layout.SpoolInfo.read(directory)
        reader = SpoolReader(directory)
        points, facts = reader.count()
    except BaseException:
        lock.release()
        raise
    return OrphanedSpool(directory, info, Outbox(reader, info.run_id), points, facts, lock)


def send_after_earlier(spool: OrphanedSpool, claimed: Iterable[OrphanedSpool], sender: Sender) -> None:
    """Start sending a spool, after the `claimed` ones of earlier attempts at the same run."""
    run_id = spool.info.run_id
    spool.outbox.earlier = [other.outbox for other in claimed if other.info.run_id == run_id]
    sender.add(spool.outbox)


_sweeping = threading.Lock()
_swept: set[tuple[Path, str]] = set()


def send_orphaned_spools(settings: Settings, node: str, sender: Sender) -> None:
    """Send this node's orphaned spools for the tracking URI in the background, once per process."""
    where = layout.node_directory(settings.spool_dir, node)
    with _sweeping:
        if (where, settings.uri) in _swept or not where.is_dir():
            return
        _swept.add((where, settings.uri))
    threading.Thread(target=_sweep, args=(where, settings, sender), name="runfold recovery", daemon=True).start()


def take_over(settings: Settings, node: str, run_id: str, sender: Sender) -> list[Outbox]:
    """Start sending what earlier processes of this node left of one run.

    Returns the outboxes that must be delivered before the run continues.
    """
    where = layout.node_directory(settings.spool_dir, node) / run_id
    if not where.is_dir():
        return []
    claimed: list[OrphanedSpool] = []
    for spool in _claim_for(settings, layout.spools(where)):
        send_after_earlier(spool, claimed, sender)
        claimed.append(spool)
    outboxes = [spool.outbox for spool in claimed]
    if claimed:
        threading.Thread(target=_finish_all, args=(claimed, sender), name="runfold recovery", daemon=True).start()
    return outboxes


def _sweep(where: Path, settings: Settings, sender: Sender) -> None:
    try:
        layout.remove_abandoned(where)
        claimed: list[OrphanedSpool] = []
        for spool in _claim_for(settings, layout.spools(where)):
            send_after_earlier(spool, claimed, sender)
            claimed.append(spool)
            while len(claimed) >= MAX_CLAIMED:
                _finish_some(claimed, sender)
        _finish_all(claimed, sender)
    except Exception:
        _log.exception("runfold: the spools in %s could not be sent", where)


def _claim_for(settings: Settings, found: Iterable[Path]) -> Iterable[OrphanedSpool]:
    """Claim the spools for the tracking URI of the settings, and those without a URI."""
    for path in found:
        try:
            if layout.SpoolInfo.read(path).uri not in ("", settings.uri):
                continue
            spool = claim(path)
        except SdkError as error:
            # Another process may have sent and removed it meanwhile.
            if path.is_dir():
                _log.warning("runfold: %s", error)
            continue
        if spool is not None:
            yield spool


def _finish_all(claimed: list[OrphanedSpool], sender: Sender) -> None:
    while claimed:
        _finish_some(claimed, sender)


def _finish_some(claimed: list[OrphanedSpool], sender: Sender) -> None:
    """Wait for the first spool for a while, then release all that are finished."""
    claimed[0].outbox.wait(None, _WAIT_SECONDS)
    for spool in [one for one in claimed if one.is_finished]:
        claimed.remove(spool)
        if spool.release(sender):
            _log.info("runfold: sent the events of run %s in %s", spool.info.run_id, spool.directory)
        for problem in (*spool.outbox.damages, *spool.outbox.problems):
            _log.warning("runfold: run %s: %s", spool.info.run_id, problem)
