"""Settings of the SDK: arguments, then `RUNFOLD_*` variables, then defaults."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from .errors import SdkError
from .tracking_uri import URI_VARIABLE, api_of

DEFAULT_URI = "http://127.0.0.1:5000"


def _version() -> str:
    try:
        return version("runfold")
    except PackageNotFoundError:
        return "0+unknown"


VERSION = _version()


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a run. Times are in seconds, sizes in bytes."""

    uri: str = DEFAULT_URI
    uri_given: bool = False
    """Whether the URI was configured. A spool without a configured URI is sent to the server that the next run uses."""
    offline: bool = False
    """Only write the spool. A later run on this node, or `runfold sync`, sends it."""
    require_server: bool = False
    """Raise NotConnected at the start of a run if no server answers."""
    spool_dir: Path = Path("runfold-spool")
    spool_bytes: int = 1024 * 1024 * 1024
    """Disk limit of a run on this node, for all its processes together.

    Beyond it, new points are dropped and counted.
    """
    spool_blocks: bool = False
    """Let log calls wait for room instead of dropping points."""
    spool_fsync: bool = False
    """Sync each write to the disk, so that saved data also survives a crash of the machine."""
    buffer_bytes: int = 64 * 1024 * 1024
    """Memory limit for a run's unsaved points and facts. Beyond it, the same happens."""
    finish_timeout: float = 60.0
    """How long the end of a run waits for the server to acknowledge its data."""
    connect_timeout: float = 10.0
    """How long the start of a run waits for the experiment's id."""
    raise_rejections: bool = False
    """Raise ServerRefused at the end of a run if events were rejected. Otherwise a warning is logged."""
    linger: float = 0.5
    """How long a row waits for more rows before it is saved and sent."""
    frame_bytes: int = 2 * 1024 * 1024
    """Size at which rows are saved and sent immediately."""

    @property
    def web(self) -> str:
        """Address of the API server and its web page."""
        return api_of(self.uri)

    @classmethod
    def load(
        cls,
        tracking_uri: str | None = None,
        mode: str | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        on_rejection: str | None = None,
    ) -> Self:
        """Load from arguments and the environment. SdkError names an invalid setting."""
        environ = os.environ if environ is None else environ
        uri = tracking_uri or environ.get(URI_VARIABLE)
        spool_dir = environ.get("RUNFOLD_SPOOL_DIR")
        return cls(
            uri=(uri or DEFAULT_URI).rstrip("/"),
            uri_given=bool(uri),
            offline=_choice(
                "mode" if mode else "RUNFOLD_MODE", mode or environ.get("RUNFOLD_MODE"), "online", "offline"
            ),
            require_server=_choice("RUNFOLD_REQUIRE_SERVER", environ.get("RUNFOLD_REQUIRE_SERVER"), "0", "1"),
            spool_dir=Path(spool_dir) if spool_dir else state_dir(environ) / "runfold" / "spool",
            spool_bytes=int(_number(environ, "RUNFOLD_SPOOL_MB", 1024) * 1024 * 1024),
            spool_blocks=_choice("RUNFOLD_SPOOL_FULL", environ.get("RUNFOLD_SPOOL_FULL"), "refuse", "block"),
            spool_fsync=_choice("RUNFOLD_SPOOL_FSYNC", environ.get("RUNFOLD_SPOOL_FSYNC"), "0", "1"),
            buffer_bytes=int(_number(environ, "RUNFOLD_BUFFER_MB", 64) * 1024 * 1024),
            finish_timeout=_number(environ, "RUNFOLD_FINISH_TIMEOUT", 60),
            raise_rejections=_choice(
                "on_rejection" if on_rejection else "RUNFOLD_ON_REJECTION",
                on_rejection or environ.get("RUNFOLD_ON_REJECTION"),
                "warn",
                "raise",
            ),
        )


def state_dir(environ: Mapping[str, str]) -> Path:
    """Return the directory for persistent state, by the XDG base directory specification."""
    named = environ.get("XDG_STATE_HOME", "")
    return Path(named) if named.startswith("/") else Path("~/.local/state").expanduser()


def _choice(name: str, text: str | None, no: str, yes: str) -> bool:
    if text not in (None, "", no, yes):
        raise SdkError(f"{name}={text!r} must be {no} or {yes}")
    return text == yes


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise SdkError(f"{name}={text!r} must be a number above 0")
    return value
