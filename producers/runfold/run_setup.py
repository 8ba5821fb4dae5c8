"""The start of a run: its identity, its experiment, and the first events in its spool."""

import getpass
import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from runfold.launcher.child_environment import hand_down
from runfold.launcher.process_context import ATTEMPT_VARIABLE, ProcessContext, read_process_context
from runfold.pipeline.encoder import RunEncoder, checked
from runfold.pipeline.recovery import send_orphaned_spools, take_over
from runfold.pipeline.rows import strings, tag_strings
from runfold.pipeline.run_creation import Creation
from runfold.pipeline.run_writer import RunWriter
from runfold.pipeline.sender import Sender, senders
from runfold.spool.layout import SpoolInfo
from runfold.transports.base import Experiment
from runfold.transports.opener import transport_opener
from runfold_schemas.events.metrics import AttemptStarted, BranchFact, RunForked
from runfold_schemas.events.runs import ParamsLogged, RunCreated
from runfold_schemas.ids import Ids

from .active_run import Run
from .errors import NotConnected, SdkError
from .names import run_name
from .run_joining import DEFAULT_EXPERIMENT, JoinedRun, join_facts, repeat_after
from .settings import Settings

_log = logging.getLogger("runfold")
_CREATION_TIMEOUT_SECONDS = 2.0
"""How long the start waits for the creation of the run, because MLflow's client may ask for the run next."""
_MAX_NODE_CHARACTERS = 250


class ForkPoint(NamedTuple):
    """The parent of a fork, the parent's branch, and the last inherited step."""

    parent: str
    branch: int
    step: int


def start_run(
    settings: Settings,
    experiment_name: str | None,
    params: Mapping[str, Any],
    name: str | None,
    tags: Mapping[str, Any],
    run_id: str | None,
    *,
    start_step: int | None = None,
    fork_point: ForkPoint | None = None,
) -> Run:
    """Start a run. See runfold.run for the arguments and errors."""
    ids = Ids()
    transport_opener(settings.uri)  # checks the URI, also of an offline run
    context = read_process_context(experiment_name or DEFAULT_EXPERIMENT, run_id)
    run_id = context.run_id or ids.run_id()
    checked(ParamsLogged, run_id=run_id, params=strings(params, "param"))
    # A process without a launcher is an attempt by itself.
    attempt = context.attempt or ("" if context.beside else ids.event_id())
    encoder = RunEncoder(run_id, ids, node=context.node[:_MAX_NODE_CHARACTERS], rank=context.rank, attempt=attempt)
    branch_events = _branch_events(context, run_id, start_step, fork_point)
    first_tags = tag_strings(tags)
    creation = _creation(encoder, ids, context, experiment_name or DEFAULT_EXPERIMENT, name, first_tags)
    sender = None if settings.offline else senders.for_uri(settings.uri)
    joined, found = _look_up(sender, settings, experiment_name, context) if sender else (JoinedRun(), None)
    experiment = joined.experiment or experiment_name or DEFAULT_EXPERIMENT
    info = SpoolInfo(
        run_id,
        experiment,
        settings.uri if settings.uri_given else "",
        context.node,
        context.pid,
        ids.now_ms(),
        offline=settings.offline,
    )
    # Everything above may fail without a trace of the run. From here on it has a spool.
    earlier = take_over(settings, context.node, run_id, sender) if sender else []
    writer = RunWriter(settings, encoder, info, sender)
    writer.outbox.earlier = earlier
    writer.outbox.experiment = found
    writer.add_creation(replace(creation, experiment=experiment))
    for event in branch_events:
        writer.add_branch_event(event, start_step if fork_point is None else fork_point.step)
    facts = list(join_facts(context, joined, name, first_tags, again=bool(earlier)))
    for fact in facts:
        writer.add_fact(fact)
    repeat_after(earlier, writer.add_fact, facts)
    run = Run(run_id, settings, writer, ends=context.rank in (None, 0), shared=context.run_id is not None)
    if params:
        run.log_params(params)
    if sender is not None:
        send_orphaned_spools(settings, context.node, sender)
    if context.rank is None:
        # Children find a run with a given id by that id; only runs with generated ids are counted.
        hand_down("" if context.run_id else experiment_name or DEFAULT_EXPERIMENT, run_id, attempt)
    if found is not None:
        writer.outbox.wait_created(_CREATION_TIMEOUT_SECONDS)
    return run


def start_fork(
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
    """Start a fork of a run. See runfold.fork for the arguments and errors."""
    if branch is None or experiment is None:
        found = senders.for_uri(settings.uri).find_parent(parent, settings.connect_timeout)
        branch = found.branch if branch is None else branch
        experiment = experiment or found.experiment
    origin = {"runfold.forkedFrom": parent, "runfold.forkedAt": str(step)}
    fork_point = ForkPoint(parent, branch, step)
    return start_run(settings, experiment, params, name, {**origin, **tags}, run_id, fork_point=fork_point)


def join_run(settings: Settings, run_id: str) -> RunWriter:
    """Return a writer of metrics for an existing run, which others create and end."""
    ids = Ids()
    sender = senders.for_uri(settings.uri)
    context = read_process_context("", run_id)
    node = context.node[:_MAX_NODE_CHARACTERS]
    encoder = RunEncoder(run_id, ids, node=node, rank=context.rank, attempt=context.attempt)
    info = SpoolInfo(run_id, "", settings.uri, context.node, context.pid, ids.now_ms())
    writer = RunWriter(settings, encoder, info, sender)
    send_orphaned_spools(settings, context.node, sender)
    return writer


def _branch_events(
    context: ProcessContext, run_id: str, start_step: int | None, fork_point: ForkPoint | None
) -> list[BranchFact]:
    """Return the branch events that precede the points. ValueError if a field is invalid."""
    events: list[BranchFact] = []
    if start_step is not None:
        if context.beside:
            raise SdkError(f"start_step starts an attempt, but {ATTEMPT_VARIABLE} is empty, which means none: unset it")
        events.append(
            checked(
                AttemptStarted,
                run_id=run_id,
                start_step=start_step,
                # A rank with an attempt of its own must not cut off the other ranks, which may be ahead of it.
                all_ranks=context.rank is None or (bool(context.attempt) and context.shared),
                world_size=context.world_size or None,
            )
        )
    if fork_point is not None:
        parent, branch, step = fork_point
        events.append(checked(RunForked, run_id=run_id, parent_run_id=parent, parent_branch=branch, step=step))
    return events


def _creation(
    encoder: RunEncoder, ids: Ids, context: ProcessContext, experiment: str, name: str | None, tags: dict[str, str]
) -> Creation:
    """Build the run's creation. ValueError if a field is invalid, now and not when the experiment is found."""
    if context.world_size is not None:
        tags = {"runfold.world_size": str(context.world_size), **tags}
    event_id, sequence = encoder.creation()
    writer = encoder.writer
    creation = Creation(
        run_id=encoder.run_id,
        experiment=experiment,
        # Seeded with the run's id, so all processes that join the run generate the same name.
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


def _look_up(
    sender: Sender, settings: Settings, experiment_name: str | None, context: ProcessContext
) -> tuple[JoinedRun, Experiment | None]:
    """Look up the joined run, if any, and the experiment; None without an answer. ServerRefused if they don't fit."""
    joined = JoinedRun()
    timeout = settings.connect_timeout
    try:
        if context.run_id is not None:
            known = sender.find_run(context.run_id, timeout)
            joined = JoinedRun.from_answer(context.run_id, known, experiment_name)
        return joined, sender.find_experiment(joined.experiment or experiment_name or DEFAULT_EXPERIMENT, timeout)
    except NotConnected as error:
        if settings.require_server:
            raise
        _log.warning("runfold: %s. The run starts anyway; its events are kept on disk until a server answers", error)
        return joined, None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
