"""Settings of the SDK: arguments first, then `RUNFOLD_*` variables, then defaults. Errors name the setting."""

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
    """How a run is sent. Times in seconds, sizes in bytes."""

    uri: str = DEFAULT_URI
    uri_given: bool = False
    """Whether somebody named the address; a spool that nobody gave one goes to whatever server is used next."""
    offline: bool = False
    """Only write the spool; what is in it is sent by a later start of a run on this node, or by `runfold sync`."""
    require_server: bool = False
    """A run does not start without an answer of the server."""
    spool_dir: Path = Path("runfold-spool")
    spool_bytes: int = 1024 * 1024 * 1024
    """Most that a run may take on this node's disk, by all its processes; beyond it new points are refused and counted, or waited for."""
    spool_blocks: bool = False
    spool_fsync: bool = False
    """Whether what is saved must survive the machine's death, not the process's only."""
    buffer_bytes: int = 64 * 1024 * 1024
    """Most memory that points and facts of a run may take until they are saved; beyond it the same happens."""
    finish_timeout: float = 60.0
    """How long the end of a run waits for the server to take what is left."""
    connect_timeout: float = 10.0
    """How long the start of a run waits for the server to name the experiment."""
    raise_rejections: bool = False
    """Whether the end of a run raises ServerRefused if something it logged was refused; else a warning says it."""
    linger: float = 0.5
    """How long a row may wait for more rows before it is saved and sent."""
    frame_bytes: int = 2 * 1024 * 1024
    """Size at which rows are saved and sent without waiting longer."""

    @property
    def web(self) -> str:
        """Where the web page and the API are."""
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
        """From arguments and the environment; SdkError names a setting that can't be used."""
        environ = os.environ if environ is None else environ
        given = tracking_uri or environ.get(URI_VARIABLE)
        spool_dir = environ.get("RUNFOLD_SPOOL_DIR")
        return cls(
            uri=(given or DEFAULT_URI).rstrip("/"),
            uri_given=bool(given),
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
    """Where programs keep what must outlive them (XDG base directory specification)."""
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
