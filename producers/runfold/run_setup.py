"""The start of a run: who it is, which experiment it belongs to, and what goes first into its spool."""

import getpass
import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from runfold.launcher.child_environment import hand_down
from runfold.launcher.process_context import ATTEMPT_VARIABLE, Place, where_we_run
from runfold.pipeline.encoder import RunEncoder, checked
from runfold.pipeline.recovery import send_leftovers, take_over
from runfold.pipeline.rows import strings
from runfold.pipeline.run_writer import RunWriter
from runfold.pipeline.sender import Shipper, shippers
from runfold.spool.layout import About
from runfold.transports.base import Experiment
from runfold.transports.opener import opener
from runfold_schemas.events.runs import AttemptStarted, LineFact, ParamsLogged, RunCreated, RunForked
from runfold_schemas.ids import Ids

from .active_run import Run
from .errors import NotConnected, SdkError
from .names import run_name
from .run_creation import Creation
from .run_joining import NAMELESS, Joined, facts_of_join, say_again
from .settings import Settings

_log = logging.getLogger("runfold")
_CREATION_TIMEOUT = 2.0
"""How long the start waits, where a server answered, until the run can be read there: MLflow's client may be next to ask for it."""


class Inherits(NamedTuple):
    """Parent, its branch, and the last step that is inherited."""

    parent: str
    branch: int
    step: int


def start(
    settings: Settings,
    named: str | None,
    params: Mapping[str, Any],
    name: str | None,
    tags: Mapping[str, Any],
    run_id: str | None,
    *,
    start_step: int | None = None,
    inherits: Inherits | None = None,
) -> Run:
    """See runfold.run."""
    ids = Ids()
    opener(settings.uri)
    place = where_we_run(named or NAMELESS, run_id)
    run_id = place.run_id or ids.run_id()
    checked(ParamsLogged, run_id=run_id, params=strings(params, "param"))
    # A process that no launcher started is an attempt of its own.
    attempt = place.attempt or ("" if place.beside else ids.event_id())
    encoder = RunEncoder(run_id, ids, node=place.node[:250], rank=place.rank, attempt=attempt)
    turns = _turns(place, run_id, start_step, inherits)
    first_tags = strings(tags, "tag")
    creation = _creation(encoder, ids, place, named or NAMELESS, name, first_tags)
    shipper = None if settings.offline else shippers.to(settings.uri)
    joined, found = _find(shipper, settings, named, place) if shipper else (Joined(), None)
    experiment = joined.experiment or named or NAMELESS
    creation = replace(creation, experiment=experiment)
    about = About(
        run_id,
        experiment,
        settings.uri if settings.uri_given else "",
        place.node,
        place.pid,
        ids.now_ms(),
        offline=settings.offline,
    )
    before = take_over(settings, place.node, run_id, shipper) if shipper else []
    writer = RunWriter(settings, encoder, about, shipper)
    writer.outbox.behind = before
    writer.outbox.experiment = found
    writer.add_creation(creation)
    for turn in turns:
        writer.add_turn(turn, start_step if inherits is None else inherits.step)
    of_join = list(facts_of_join(place, joined, name, first_tags, again=bool(before)))
    for fact in of_join:
        writer.add_fact(fact)
    say_again(before, writer.add_fact, of_join)
    run = Run(run_id, settings, writer, ends=place.rank in (None, 0), shared=place.run_id is not None)
    if params:
        run.log_params(params)
    if shipper is not None:
        send_leftovers(settings, place.node, shipper)
    if place.rank is None:
        # A run that was named is found by its name; only those that were made up are counted.
        hand_down("" if place.run_id else named or NAMELESS, run_id, attempt)
    if found is not None:
        writer.outbox.wait_created(_CREATION_TIMEOUT)
    return run


def fork_of(
    settings: Settings,
    parent: str,
    step: int,
    branch: int | None,
    experiment: str | None,
    params: Mapping[str, Any],
    name: str | None,
    tags: Mapping[str, Any],
    run_id: str | None,
) -> Run:
    """See runfold.fork."""
    if branch is None or experiment is None:
        found = shippers.to(settings.uri).find_parent(parent, settings.connect_timeout)
        branch = found.branch if branch is None else branch
        experiment = experiment or found.experiment
    lineage = {"runfold.forkedFrom": parent, "runfold.forkedAt": str(step)}
    inherits = Inherits(parent, branch, step)
    return start(settings, experiment, params, name, {**lineage, **tags}, run_id, inherits=inherits)


def _turns(place: Place, run_id: str, start_step: int | None, inherits: Inherits | None) -> list[LineFact]:
    """What comes before the points. ValueError: a field breaks the contract."""
    turns: list[LineFact] = []
    if start_step is not None:
        if place.beside:
            raise SdkError(f"start_step is what an attempt says, and {ATTEMPT_VARIABLE} is set to none: unset it")
        turns.append(
            checked(
                AttemptStarted,
                run_id=run_id,
                start_step=start_step,
                # Where each rank is an attempt of its own, it can't speak for the others: they may be ahead of it.
                all_ranks=place.rank is None or (bool(place.attempt) and place.shared),
                world_size=place.world_size or None,
            )
        )
    if inherits is not None:
        parent, branch, step = inherits
        turns.append(checked(RunForked, run_id=run_id, parent_run_id=parent, parent_branch=branch, step=step))
    return turns


def join(settings: Settings, run_id: str) -> RunWriter:
    """A writer of metrics for a run that exists and that others create and end."""
    ids = Ids()
    shipper = shippers.to(settings.uri)
    place = where_we_run("", run_id)
    encoder = RunEncoder(run_id, ids, node=place.node[:250], rank=place.rank, attempt=place.attempt)
    writer = RunWriter(settings, encoder, About(run_id, "", settings.uri, place.node, place.pid, ids.now_ms()), shipper)
    send_leftovers(settings, place.node, shipper)
    return writer


def _creation(
    encoder: RunEncoder, ids: Ids, place: Place, experiment: str, name: str | None, tags: dict[str, str]
) -> Creation:
    """ValueError: a field breaks the contract, which is told now, and not when the experiment is known."""
    if place.world_size is not None:
        tags = {"runfold.world_size": str(place.world_size), **tags}
    event_id, sequence = encoder.creation()
    writer = encoder.writer
    creation = Creation(
        run_id=encoder.run_id,
        experiment=experiment,
        # Of the run's id: all processes that join it make up the same name.
        name=name or run_name(random.Random(encoder.run_id)),
        user_id=_user(),
        start_ms=ids.now_ms(),
        event_id=event_id,
        writer=writer.id,
        sequence=sequence,
        node=writer.node,
        rank=writer.rank,
        attempt=writer.attempt,
        tags=tags,
    )
    checked(
        RunCreated,
        run_id=creation.run_id,
        experiment_id=0,
        name=creation.name,
        user_id=creation.user_id,
        start_ms=creation.start_ms,
        artifact_uri="",
        tags=tags,
    )
    return creation


def _find(shipper: Shipper, settings: Settings, named: str | None, place: Place) -> tuple[Joined, Experiment | None]:
    """What is known of a run that is joined, and its experiment, if a server answers. ServerRefused: it takes no runs, or not this one."""
    joined = Joined()
    try:
        if place.run_id is not None:
            joined = Joined.of(place.run_id, shipper.find_run(place.run_id, settings.connect_timeout), named)
        return joined, shipper.find_experiment(joined.experiment or named or NAMELESS, settings.connect_timeout)
    except NotConnected as error:
        if settings.require_server:
            raise
        _log.warning(
            "runfold: %s. The run starts all the same; what it logs is kept on disk until a server answers", error
        )
        return joined, None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
