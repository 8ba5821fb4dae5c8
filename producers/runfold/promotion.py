"""Promotions: atomic, conditional moves of aliases and stages of registered models."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import NotConnected, SdkError, ServerRefused
from .settings import Settings
from .tracking_uri import URI_VARIABLE

PATH = "/api/runfold/v1/models:promote"
_TIMEOUT_SECONDS = 30.0
_ON_ALIAS = re.compile(r"(?P<name>[^/:]+)@(?P<alias>[\w\-]+)=(?P<version>[1-9][0-9]{0,9}|none)")
_ON_VERSION = re.compile(r"(?P<name>[^/:]+)/(?P<version>[1-9][0-9]{0,9})(?:=(?P<stage>\w+))?")
_ON_MODEL = re.compile(r"(?P<name>[^/:@=]+)")

Part = str | Mapping[str, Any]
"""A move or a condition: a string such as `churn@prod=8`, or a dict of the API's fields."""


def promote(
    *moves: Part,
    only_if: Part | Iterable[Part] = (),
    archive_existing: bool = False,
    comment: str = "",
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Move aliases and stages of one or several registered models in one event.

    Either all moves take effect, or none because a condition does not hold.

    Args:
        moves: `churn@prod=8` sets the alias to version 8, `churn@prod=none` removes it, and `churn/8=Production` gives
            the version a stage.
        only_if: Conditions: `churn@prod=7`, `churn@prod=none` (the alias is not set), `churn/8` (the version exists),
            `churn/8=Staging` (it is in that stage), `churn` (the model exists).
        archive_existing: Archive the other versions in the new stage.
        comment: Kept with the event.

    Returns:
        The position of the event, and the models after it.

    Raises:
        ServerRefused: A condition does not hold, or a move is impossible. The message names it and the current state.
        NotConnected: No answer. The promotion may still have taken effect; repeating it is safe if its conditions can't
            hold afterwards.
    """
    # Imported here because the HTTP client would slow down `import runfold`.
    from runfold.transports.base import TransportError, TryAgain
    from runfold.transports.http import HttpTransport

    conditions = (
        list(only_if) if isinstance(only_if, Iterable) and not isinstance(only_if, str | Mapping) else [only_if]
    )
    body = {
        "moves": [_move(part, archive_existing) for part in moves],
        "conditions": [_condition(part) for part in conditions],
        "comment": comment,
    }
    if not moves:
        raise SdkError("a promotion needs a move, such as 'churn@prod=8'")
    with HttpTransport(Settings.load(tracking_uri).web) as transport:
        try:
            return transport.request("POST", PATH, timeout=_TIMEOUT_SECONDS, json=body)
        except TryAgain as error:
            raise NotConnected(
                f"the promotion may or may not have taken effect: {error}. "
                f"The server's address comes from tracking_uri or {URI_VARIABLE}"
            ) from error
        except TransportError as error:
            raise ServerRefused(str(error)) from error


def _move(part: Part, archive_existing: bool) -> dict[str, Any]:
    fields = _fields(part, "move")
    if "alias" not in fields and "stage" not in fields:
        raise SdkError(f"{part!r} moves nothing: use churn@prod=8, churn@prod=none or churn/8=Production")
    if archive_existing and "stage" in fields:
        fields.setdefault("archive_existing", True)
    return fields


def _condition(part: Part) -> dict[str, Any]:
    return _fields(part, "condition")


def _fields(part: Part, what: str) -> dict[str, Any]:
    if isinstance(part, Mapping):
        return dict(part)
    if not isinstance(part, str):
        raise SdkError(
            f"a {what} is a string such as 'churn@prod=8', or a dict; got {part!r:.100}. Pass several one by one"
        )
    return _parse(part)


def _parse(text: str) -> dict[str, Any]:
    found = _ON_ALIAS.fullmatch(text) or _ON_VERSION.fullmatch(text) or _ON_MODEL.fullmatch(text)
    if found is None:
        raise SdkError(
            f"{text!r} is neither churn@prod=8, churn@prod=none, churn/8, churn/8=Production "
            "nor the name of a registered model"
        )
    fields: dict[str, Any] = {key: value for key, value in found.groupdict().items() if value is not None}
    version = fields.pop("version", "none")
    if version != "none":
        fields["version"] = int(version)
    if "stage" in fields:
        fields["stage"] = fields["stage"].capitalize()
    return fields
