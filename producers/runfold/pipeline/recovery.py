"""What earlier processes left in their spools: found, claimed, and sent."""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from runfold.errors import SdkError
from runfold.settings import Settings
from runfold.spool import layout
from runfold.spool.reader import SpoolReader

from .outbox import Outbox
from .sender import Shipper, shippers

_log = logging.getLogger("runfold")
_MOST_AT_ONCE = 64
_LOOK = 0.1


@dataclass(slots=True)
class Leftover:
    """A spool whose owner is gone, claimed by this process."""

    directory: Path
    about: layout.About
    outbox: Outbox
    points: int
    facts: int
    lock: layout.SpoolLock
    living: Path | None = None
    """The spool of a living process of which this is a copy."""

    def let_go(self, shipper: Shipper) -> bool:
        """End the claim; whether all of it has arrived, in which case its files are gone."""
        shipper.remove(self.outbox)
        arrived = self.outbox.drained and not self.outbox.blocked
        if arrived:
            self.outbox.finish()
        self.lock.release()
        return arrived


def claim(directory: Path) -> Leftover | None:
    """None: its process lives, or another one sends it. SdkError: it can't be read by this release."""
    lock = layout.SpoolLock.take(directory, create=(directory / layout.ABOUT).is_file())
    if lock is None:
        return None
    try:
        about = layout.About.read(directory)
        reader = SpoolReader(directory)
        points, facts = reader.count()
    except BaseException:
        lock.release()
        raise
    return Leftover(directory, about, Outbox(reader, about.run_id), points, facts, lock)


def copy_of_living(directory: Path) -> Leftover | None:
    """What an offline run has on disk while it goes on, by links in a directory of our own: what is sent of it comes again one day, and
    counts once. None: its process sends it itself.
    """
    about = layout.About.read(directory)
    if not about.offline:
        return None
    copy = layout.link(directory)
    leftover = claim(copy)
    if leftover is not None:
        leftover.living = directory
    return leftover


@dataclass(slots=True)
class Report:
    """What became of the spools below a directory."""

    sent: list[str] = field(default_factory=list)
    """Runs whose spool is gone now, because all of it has arrived."""
    busy: list[Path] = field(default_factory=list)
    """Their process lives and sends them itself, or another `sync` does."""
    live: list[str] = field(default_factory=list)
    """Offline runs whose process lives: what they had on disk was sent, and stays there."""
    left: dict[Path, str] = field(default_factory=dict)
    """What could not be sent, and why."""
    strange: list[str] = field(default_factory=list)
    """Files that are not ours, and parts that can't be read."""
    refused: list[str] = field(default_factory=list)
    """What the server refused for good."""
    points: int = 0
    facts: int = 0


Progress = Callable[[int, int], None]
"""Called with points and facts that have arrived, and how many there are in all."""


def sync(
    directory: Path,
    uri: str,
    *,
    use_recorded: bool = True,
    experiment: str | None = None,
    patience: float = 30.0,
    progress: Progress = lambda done, all: None,
) -> Report:
    """Send every spool at or below a directory whose process is gone.

    Each goes to the server that its run named, if `use_recorded` and it named one, else to `uri`. Gives up on a server that has taken
    nothing for `patience` seconds. SdkError: there is no such directory.
    """
    if not directory.is_dir():
        raise SdkError(f"{directory} is no directory; spools lie below RUNFOLD_SPOOL_DIR")
    report = Report()
    claimed: list[tuple[Leftover, Shipper]] = []
    total = done_before = 0
    again = False
    layout.clear_unborn(directory)
    todo = list(layout.spools(directory))
    while todo or claimed or report.busy:
        if not todo and not claimed:
            if again:
                break
            # A lock that was let go lives on for a moment in a child that was forked meanwhile, until it becomes another program.
            again, todo, report.busy = True, report.busy, []
            time.sleep(_LOOK)
        while todo and len(claimed) < _MOST_AT_ONCE:
            path = todo.pop(0)
            try:
                leftover = claim(path) or (copy_of_living(path) if again else None)
            except (SdkError, OSError) as error:
                if path.is_dir():
                    report.left[path] = str(error)
                continue
            if leftover is None:
                report.busy.append(path)
                continue
            try:
                shipper = shippers.to((use_recorded and leftover.about.uri) or uri)
            except SdkError as error:
                leftover.lock.release()
                report.left[path] = str(error)
                continue
            leftover.outbox.other_experiment = experiment
            total += leftover.points + leftover.facts
            _behind_others(leftover, (other for other, its in claimed if its is shipper))
            claimed.append((leftover, shipper))
            shipper.add(leftover.outbox)
        quiet_since, seen = time.monotonic(), -1
        while claimed:
            claimed[0][0].outbox.wait(None, _LOOK)
            moved = sum(leftover.outbox.points + leftover.outbox.facts for leftover, _ in claimed)
            progress(done_before + moved, total)
            if moved != seen:
                quiet_since, seen = time.monotonic(), moved
            patient = time.monotonic() - quiet_since < patience
            over = [pair for pair in claimed if not patient or pair[0].outbox.drained or pair[0].outbox.blocked]
            if over:
                break
        for pair in over if claimed else ():
            claimed.remove(pair)
            _note(report, *pair)
            done_before += pair[0].outbox.points + pair[0].outbox.facts
    return report


def _note(report: Report, leftover: Leftover, shipper: Shipper) -> None:
    outbox = leftover.outbox
    arrived = leftover.let_go(shipper)
    if leftover.living is not None:
        shutil.rmtree(leftover.directory, ignore_errors=True)
    if arrived and leftover.living is not None:
        report.live.append(leftover.about.run_id)
    elif arrived:
        report.sent.append(leftover.about.run_id)
    else:
        report.left[leftover.living or leftover.directory] = (
            outbox.blocked or outbox.last_error or "nothing was taken in time"
        )
    report.points += outbox.points
    report.facts += outbox.facts
    report.refused += [f"run {leftover.about.run_id}: {problem}" for problem in outbox.problems]
    report.strange += outbox.damages
    if leftover.directory.is_dir():
        report.strange += [f"{leftover.directory / name} is not ours" for name in layout.strangers(leftover.directory)]


_sweeping = threading.Lock()
_swept: set[tuple[Path, str]] = set()


def send_leftovers(settings: Settings, node: str, shipper: Shipper) -> None:
    """In the background, once per process and server: send what runs of this node left that was meant for it."""
    where = layout.of_node(settings.spool_dir, node)
    with _sweeping:
        if (where, settings.uri) in _swept or not where.is_dir():
            return
        _swept.add((where, settings.uri))
    threading.Thread(target=_sweep, args=(where, settings, shipper), name="runfold leftovers", daemon=True).start()


def take_over(settings: Settings, node: str, run_id: str, shipper: Shipper) -> list[Outbox]:
    """Begin to send what earlier processes of this node left of one run; what has to arrive before the run goes on."""
    where = layout.of_node(settings.spool_dir, node) / run_id
    if not where.is_dir():
        return []
    claimed: list[Leftover] = []
    for leftover in _meant_for(layout.spools(where), settings):
        _behind_others(leftover, claimed)
        claimed.append(leftover)
        shipper.add(leftover.outbox)
    if claimed:
        outboxes = [leftover.outbox for leftover in claimed]
        threading.Thread(target=_end_all, args=(claimed, shipper), name="runfold leftovers", daemon=True).start()
        return outboxes
    return []


def _behind_others(leftover: Leftover, earlier: Iterable[Leftover]) -> None:
    run_id = leftover.about.run_id
    leftover.outbox.behind = [other.outbox for other in earlier if other.about.run_id == run_id]


def _sweep(where: Path, settings: Settings, shipper: Shipper) -> None:
    try:
        layout.clear_unborn(where)
        _send(_meant_for(layout.spools(where), settings), shipper)
    except Exception:
        _log.exception("runfold: what lies in %s could not be sent", where)


def _meant_for(found: Iterable[Path], settings: Settings) -> Iterable[Leftover]:
    for path in found:
        try:
            if layout.About.read(path).uri not in ("", settings.uri):
                continue
            leftover = claim(path)
        except SdkError as error:
            if path.is_dir():
                _log.warning("runfold: %s", error)
            continue
        if leftover is not None:
            yield leftover


def _send(leftovers: Iterable[Leftover], shipper: Shipper) -> None:
    claimed: list[Leftover] = []
    for leftover in leftovers:
        _behind_others(leftover, claimed)
        claimed.append(leftover)
        shipper.add(leftover.outbox)
        while len(claimed) >= _MOST_AT_ONCE:
            _end_some(claimed, shipper)
    _end_all(claimed, shipper)


def _end_all(claimed: list[Leftover], shipper: Shipper) -> None:
    while claimed:
        _end_some(claimed, shipper)


def _end_some(claimed: list[Leftover], shipper: Shipper) -> None:
    claimed[0].outbox.wait(None, 5.0)
    for leftover in [one for one in claimed if one.outbox.drained or one.outbox.blocked]:
        claimed.remove(leftover)
        if leftover.let_go(shipper):
            _log.info("runfold: sent what run %s had left in %s", leftover.about.run_id, leftover.directory)
        for problem in (*leftover.outbox.damages, *leftover.outbox.problems):
            _log.warning("runfold: run %s: %s", leftover.about.run_id, problem)
