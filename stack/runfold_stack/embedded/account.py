"""Running as root: the account Postgres drops to, and how it reaches files that only root may reach.

Postgres refuses to run as root. The package's own helper makes every directory above its files readable by everybody;
those directories are not ours (a home directory, a virtual environment), so nothing here changes the permissions of
anything that we did not make. Instead the data directory is entered before the user is dropped (see postgres.py), and
the programs are copied to a cache when the account could not run them where they are.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runfold_stack.errors import NoServiceUser
from runfold_stack.supervision.process import Account

if TYPE_CHECKING:
    from collections.abc import Sequence

# Ours if it can be made; else the account that Postgres packages of the system use.
OWN_ACCOUNT = "runfold-postgres"
FALLBACK_ACCOUNT = "postgres"
USERADD_ATTEMPTS = 5
USERADD_PAUSE_SECONDS = 0.2


def service_account(data: Path) -> Account | None:
    """The account to drop to, made if need be; None when we are not root and need none.

    The owner of a data directory that exists stays its owner.
    Raises NoServiceUser if there is no account and none can be made.
    """
    if os.geteuid() != 0:
        return None
    return _owner(data) or _find(OWN_ACCOUNT) or _create(OWN_ACCOUNT) or _find(FALLBACK_ACCOUNT) or _give_up()


def reachable(path: Path, account: Account) -> bool:
    """Whether the account may enter every directory on the way to `path`, and read and run what is there."""
    resolved = path.resolve()
    on_the_way = all(_allows(parent.stat(), account, 0o1) for parent in resolved.parents)
    return on_the_way and _allows(resolved.stat(), account, 0o5)


def shared_copy(source: Path, parts: Sequence[Path], name: str) -> Path:
    """A copy of some trees below `source` that every account can read and only root can write; made once.

    Complete or absent: the copy is renamed into place when it is done.
    """
    for base in (Path("/var/cache"), Path(tempfile.gettempdir())):
        target = base / "runfold" / name
        if _is_roots(target):
            return target
        try:
            target.parent.mkdir(mode=0o755, exist_ok=True)
            if not _is_roots(target.parent):
                continue
            draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
            try:
                for part in parts:
                    shutil.copytree(source / part, draft / "tree" / part, symlinks=True)
                (draft / "tree").chmod(0o755)
                (draft / "tree").rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        except OSError:
            if _is_roots(target):  # somebody else was quicker
                return target
            continue
        return target
    raise NoServiceUser(
        f"Postgres' programs in {source} can't be read by the account it has to run under, and no place to copy "
        "them to was found. "
        "Start the stack as an ordinary user, or install the package where every user can read it."
    )


def _find(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _owner(data: Path) -> Account | None:
    try:
        entry = pwd.getpwuid(data.stat().st_uid)
    except (OSError, KeyError):
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid) if entry.pw_uid != 0 else None


def _create(name: str) -> Account | None:
    useradd = shutil.which("useradd", path=os.defpath + ":/usr/sbin:/sbin")
    if useradd is None:
        return None
    command = [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    for _ in range(USERADD_ATTEMPTS):  # it gives up at once when another process changes the accounts
        done = subprocess.run(command, check=False, capture_output=True).returncode == 0
        if done or _find(name):
            break
        time.sleep(USERADD_PAUSE_SECONDS)
    return _find(name)


def _give_up() -> Account:
    raise NoServiceUser(
        f"Postgres refuses to run as root, and no account named {OWN_ACCOUNT} could be made. "
        f"Start the stack as an ordinary user, or make an account {OWN_ACCOUNT} (`useradd --system {OWN_ACCOUNT}`)."
    )


def _allows(status: os.stat_result, account: Account, wanted: int) -> bool:
    if status.st_uid == account.uid:
        granted = status.st_mode >> 6
    elif status.st_gid == account.gid:
        granted = status.st_mode >> 3
    else:
        granted = status.st_mode
    return granted & wanted == wanted


def _is_roots(path: Path) -> bool:
    """A directory that only root can have made and changed: the temporary directory is open to everybody."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & 0o022
