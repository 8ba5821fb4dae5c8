"""Settings of the SDK: arguments first, then `RUNFOLD_*` variables, then defaults. Errors name the setting."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Self

from .errors import SdkError

URI_VARIABLE = "RUNFOLD_TRACKING_URI"
DEFAULT_URI = "http://127.0.0.1:5000"


def _version() -> str:
    try:
        return version("runfold")
    except PackageNotFoundError:
        return "0+unknown"


VERSION = _version()


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run is sent. Times in seconds, sizes in bytes."""

    uri: str = DEFAULT_URI
    buffer_bytes: int = 64 * 1024 * 1024
    """Most memory that unacknowledged points and facts of a run may take; beyond it new ones are refused and counted."""
    finish_timeout: float = 60.0
    """How long the end of a run waits for the server to take what is left."""
    connect_timeout: float = 10.0
    """How long the start of a run waits for the server to name the experiment."""
    linger: float = 0.5
    """How long a row may wait for more rows before it is sent."""
    frame_bytes: int = 256 * 1024
    """Size at which rows are sent without waiting longer."""

    @classmethod
    def load(cls, tracking_uri: str | None = None, environ: Mapping[str, str] = os.environ) -> Self:
        """From an argument and the environment; SdkError names a setting that can't be used."""
        uri = tracking_uri or environ.get(URI_VARIABLE) or DEFAULT_URI
        if not uri.startswith(("http://", "https://")):
            raise SdkError(
                f"tracking URI {uri!r} (argument tracking_uri or {URI_VARIABLE}) must begin with http:// or https://"
            )
        return cls(
            uri=uri.rstrip("/"),
            buffer_bytes=int(_number(environ, "RUNFOLD_BUFFER_MB", 64) * 1024 * 1024),
            finish_timeout=_number(environ, "RUNFOLD_FINISH_TIMEOUT", 60),
        )


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise SdkError(f"{name}={text!r} must be a number above 0")
    return value
