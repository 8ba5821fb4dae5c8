"""Sending of all spools below a directory, for `runfold sync`."""

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from runfold.errors import SdkError
from runfold.spool import layout

from .recovery import MAX_CLAIMED, OrphanedSpool, claim, send_after_earlier
from .sender import Sender, senders

_POLL_SECONDS = 0.1


@dataclass(slots=True)
class SyncReport:
    """Result of a sync."""

    sent: list[str] = field(default_factory=list)
    """Runs whose spool was delivered completely and removed."""
    busy: list[Path] = field(default_factory=list)
    """Spools that their live process, or another `sync`, is sending."""
    live: list[str] = field(default_factory=list)
    """Offline runs that are still running. What they had on disk was delivered, and stays there."""
    left: dict[Path, str] = field(default_factory=dict)
    """Spools that could not be sent, with the reason."""
    unreadable: list[str] = field(default_factory=list)
    """Unknown files and damaged ranges."""
    rejected: list[str] = field(default_factory=list)
    """Events that the server rejected."""
    points: int = 0
    facts: int = 0


Progress = Callable[[int, int], None]
"""Called with the number of points and facts delivered so far, and the total."""


def sync(
    directory: Path,
    uri: str,
    *,
    use_recorded: bool = True,
    experiment: str | None = None,
    patience: float = 30.0,
    progress: Progress = lambda done, total: None,
) -> SyncReport:
    """Send every spool at or below a directory whose process is gone, and copies of those of live offline runs.

    Each goes to the tracking URI of its run if `use_recorded` and the run had one, else to `uri`; `experiment`
    replaces the run's own. Gives up after nothing was delivered for `patience` seconds. SdkError if the directory
    does not exist.
    """
    if not directory.is_dir():
        raise SdkError(f"{directory} is not a directory; spools are below RUNFOLD_SPOOL_DIR")
    layout.remove_abandoned(directory)
    current = _Sync(uri, use_recorded, experiment, patience, progress)
    current.send(layout.spools(directory), copy_live=False)
    if current.report.busy:
        # A forked child keeps a released lock until it executes another program, so try once more after a moment.
        again, current.report.busy = current.report.busy, []
        time.sleep(_POLL_SECONDS)
        current.send(again, copy_live=True)
    return current.report


class _Sync:
    """State of one call of `sync`. Claims a bounded number of spools at a time."""

    def __init__(
        self, uri: str, use_recorded: bool, experiment: str | None, patience: float, progress: Progress
    ) -> None:
        self._uri, self._use_recorded, self._experiment = uri, use_recorded, experiment
        self._patience, self._progress = patience, progress
        self._claimed: list[tuple[OrphanedSpool, Sender]] = []
        self._delivered = self._total = 0
        self.report = SyncReport()

    def send(self, paths: Iterable[Path], *, copy_live: bool) -> None:
        """Send these spools. With `copy_live`, also send a copy of what live offline runs have on disk."""
        waiting = deque(paths)
        while waiting or self._claimed:
            while waiting and len(self._claimed) < MAX_CLAIMED:
                self._claim(waiting.popleft(), copy_live)
            for spool, sender in self._wait_for_finished():
                self._claimed.remove((spool, sender))
                self._delivered += spool.outbox.points + spool.outbox.facts
                self._release(spool, sender)

    def _claim(self, path: Path, copy_live: bool) -> None:
        """Claim a spool and start sending it, or report why not."""
        try:
            spool = claim(path) or (_claim_copy(path) if copy_live else None)
        except (SdkError, OSError) as error:
            # If the directory is gone, another process has just sent it.
            if path.is_dir():
                self.report.left[path] = str(error)
            return
        if spool is None:
            self.report.busy.append(path)
            return
        try:
            sender = senders.for_uri((self._use_recorded and spool.info.uri) or self._uri)
        except SdkError as error:
            spool.lock.release()
            self.report.left[path] = str(error)
            return
        spool.outbox.other_experiment = self._experiment
        self._total += spool.points + spool.facts
        send_after_earlier(spool, [other for other, its in self._claimed if its is sender], sender)
        self._claimed.append((spool, sender))

    def _wait_for_finished(self) -> list[tuple[OrphanedSpool, Sender]]:
        """Wait until a claimed spool is finished and return all that are.

        If no server accepts anything for `patience` seconds, all count as finished. Empty only if nothing is claimed.
        """
        quiet_since, last_delivered = time.monotonic(), -1
        while self._claimed:
            self._claimed[0][0].outbox.wait(None, _POLL_SECONDS)
            delivered = sum(spool.outbox.points + spool.outbox.facts for spool, _ in self._claimed)
            self._progress(self._delivered + delivered, self._total)
            if delivered != last_delivered:
                quiet_since, last_delivered = time.monotonic(), delivered
            give_up = time.monotonic() - quiet_since >= self._patience
            finished = [(spool, sender) for spool, sender in self._claimed if give_up or spool.is_finished]
            if finished:
                return finished
        return []

    def _release(self, spool: OrphanedSpool, sender: Sender) -> None:
        """End a claim and report its result."""
        report, outbox, run_id = self.report, spool.outbox, spool.info.run_id
        delivered = spool.release(sender)
        if spool.live_original is not None:
            shutil.rmtree(spool.directory, ignore_errors=True)
        if not delivered:
            why = outbox.blocked or outbox.last_error or "the server accepted nothing in time"
            report.left[spool.live_original or spool.directory] = why
        elif spool.live_original is not None:
            report.live.append(run_id)
        else:
            report.sent.append(run_id)
        report.points += outbox.points
        report.facts += outbox.facts
        report.rejected += [f"run {run_id}: {problem}" for problem in outbox.problems]
        report.unreadable += outbox.damages
        if spool.directory.is_dir():
            unknown = layout.unknown_files(spool.directory)
            report.unreadable += [f"{spool.directory / name} is not a file of Runfold" for name in unknown]


def _claim_copy(directory: Path) -> OrphanedSpool | None:
    """Claim a hard-linked copy of a live offline run's spool. None if its process sends it itself.

    The run's events are sent again from the original one day, and count once.
    """
    if not layout.SpoolInfo.read(directory).offline:
        return None
    copy = claim(layout.link_spool(directory))
    if copy is not None:
        copy.live_original = directory
    return copy
