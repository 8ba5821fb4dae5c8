"""Promotions: several aliases and stages of registered models moved at once, under conditions, wholly or not at all."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import NotConnected, SdkError, ServerRefused
from .settings import Settings
from .tracking_uri import URI_VARIABLE

PATH = "/api/runfold/v1/models:promote"
_TIMEOUT = 30.0
_ON_ALIAS = re.compile(r"(?P<name>[^/:]+)@(?P<alias>[\w\-]+)=(?P<version>[1-9][0-9]{0,9}|none)")
_ON_VERSION = re.compile(r"(?P<name>[^/:]+)/(?P<version>[1-9][0-9]{0,9})(?:=(?P<stage>\w+))?")
_ON_MODEL = re.compile(r"(?P<name>[^/:@=]+)")

Part = str | Mapping[str, Any]
"""A move or a condition: a text such as `churn@prod=8`, or the fields that the API takes."""


def promote(
    *moves: Part,
    only_if: Part | Iterable[Part] = (),
    archive_existing: bool = False,
    comment: str = "",
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Move aliases and stages, of one registered model or several, by one event: all of it, or nothing if a condition does not hold.

    A move is `churn@prod=8` (the alias stands on version 8 then), `churn@prod=none` (it is taken away) or `churn/8=Production` (the
    version gets the stage; with `archive_existing`, others in it are archived). A condition is `churn@prod=7`, `churn@prod=none` (not
    set), `churn/8` (there is such a version), `churn/8=Staging` (in that stage) or `churn` (there is such a model). Answers the position of the event
    and the models as they are after it.

    ServerRefused: a condition does not hold, or a move can't be made; the message says which and what holds. NotConnected: no answer;
    the promotion may still have taken effect, and repeating it is safe if its conditions no longer hold then.
    """
    # Imported on first use: `import runfold` stays light.
    from runfold.transports.base import Never, TryAgain
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
            return transport.request("POST", PATH, timeout=_TIMEOUT, json=body)
        except Never as error:
            raise ServerRefused(str(error)) from error
        except TryAgain as error:
            raise NotConnected(
                f"it is not known whether the promotion took effect: {error}. The server is named by tracking_uri or {URI_VARIABLE}"
            ) from error


def _move(part: Part, archive_existing: bool) -> dict[str, Any]:
    fields = _fields(part, "move")
    if "alias" not in fields and "stage" not in fields:
        raise SdkError(f"{part!r} moves nothing: say churn@prod=8, churn@prod=none or churn/8=Production")
    if archive_existing and "stage" in fields:
        fields.setdefault("archive_existing", True)
    return fields


def _condition(part: Part) -> dict[str, Any]:
    return _fields(part, "condition")


def _fields(part: Part, what: str) -> dict[str, Any]:
    if isinstance(part, Mapping):
        return dict(part)
    if not isinstance(part, str):
        raise SdkError(f"a {what} is a text such as 'churn@prod=8', or a dict; got {part!r:.100}: give each by itself")
    return _read(part)


def _read(text: str) -> dict[str, Any]:
    found = _ON_ALIAS.fullmatch(text) or _ON_VERSION.fullmatch(text) or _ON_MODEL.fullmatch(text)
    if found is None:
        raise SdkError(
            f"{text!r} is neither churn@prod=8, churn@prod=none, churn/8, churn/8=Production nor the name of a registered model"
        )
    fields: dict[str, Any] = {key: value for key, value in found.groupdict().items() if value is not None}
    version = fields.pop("version", "none")
    if version != "none":
        fields["version"] = int(version)
    if "stage" in fields:
        fields["stage"] = fields["stage"].capitalize()
    return fields
