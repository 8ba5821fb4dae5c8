"""The start of a run: who it is, which experiment it belongs to, and what goes first into its spool."""

import getpass
import logging
import random
from collections.abc import Mapping
from typing import Any

from runfold_schemas.events import ParamsLogged, RunCreated
from runfold_schemas.ids import Ids

from ._run import Run, strings
from .creation import Creation
from .encoding import RunEncoder, checked
from .errors import NotConnected
from .leftovers import send_leftovers
from .names import run_name
from .place import Place, where_we_run
from .settings import Settings
from .shipper import Shipper, shippers
from .spool.layout import About
from .target import opener
from .transport import Experiment
from .writing import RunWriter

_log = logging.getLogger("runfold")


def start(
    settings: Settings,
    experiment: str,
    params: Mapping[str, Any],
    name: str | None,
    tags: Mapping[str, Any],
    run_id: str | None,
) -> Run:
    """See runfold.run."""
    ids = Ids()
    opener(settings.uri)
    place = where_we_run(experiment, run_id)
    run_id = place.run_id or ids.run_id()
    first_params = checked(ParamsLogged, run_id=run_id, params=strings(params, "param"))
    encoder = RunEncoder(run_id, ids, node=place.node[:250], rank=place.rank, attempt=place.attempt)
    creation = _creation(encoder, ids, place, experiment, name, strings(tags, "tag"))
    shipper = None if settings.offline else shippers.to(settings.uri)
    found = _find(shipper, settings, experiment) if shipper else None
    about = About(run_id, experiment, settings.uri if settings.uri_given else "", place.node, place.pid, ids.now_ms())
    writer = RunWriter(settings, encoder, about, shipper)
    writer.outbox.experiment = found
    writer.add_creation(creation)
    if params:
        writer.add_fact(first_params)
    if shipper is not None:
        send_leftovers(settings, place.node, shipper)
    return Run(run_id, settings, writer, ends=place.rank in (None, 0))


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


def _find(shipper: Shipper, settings: Settings, experiment: str) -> Experiment | None:
    """The experiment, if a server answers. ServerRefused: it takes no runs."""
    try:
        return shipper.find_experiment(experiment, settings.connect_timeout)
    except NotConnected as error:
        if settings.require_server:
            raise
        _log.warning(
            "runfold: %s. The run starts all the same; what it logs is kept on disk until a server answers", error
        )
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
