"""Kafka in a second: the JVM's ahead-of-time cache, trained once per machine.

Most of a broker's start is loading and linking some seven thousand classes. The JVM can keep the result in a file (JEP
483, 514): measured on 2 cores, a start then takes 0.9 instead of 2.4 seconds and 40 MB less memory. The file depends on
the exact JRE and jars, so it is made here and not shipped: in the background, at the lowest priority, by a broker of
its own on a throwaway directory, once a stack has been up for a while. Without the file, or with a damaged one,
everything works as before, only slower.

`python -m runfold_stack.embedded warm-up` creates it now, before many stacks are started (a test run, an
image).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runfold_stack.errors import StackError
from runfold_stack.supervision.process import end, run_once, spawn

from . import jars, kafka, kafka_login
from .ports import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTLE_SECONDS = 20.0  # a stack that lives less (a test's) should not pay for others
BROKER_SECONDS = 120.0
UNUSED_SECONDS = 30 * 24 * 3600.0
LOWEST_PRIORITY = ("nice", "-n", "19")


def cache_file(classpath: Sequence[Path]) -> Path:
    """Where the cache for this JRE, these flags and these jars lies.

    The JVM itself refuses jars whose times have changed.
    """
    digest = hashlib.sha256(repr((kafka.java_version(), kafka.JVM_FLAGS)).encode())
    for jar in classpath:
        digest.update(f"{jar} {jar.stat().st_mtime_ns}\n".encode())
    return jars.cache_directory() / f"kafka-{digest.hexdigest()[:16]}.aot"


def flags(cache: Path) -> list[str]:
    """JVM flags that use the cache if it is there; none otherwise."""
    if not cache.is_file():
        return []
    os.utime(cache)  # for `discard_unused`
    # Checksums are verified because a cache that is damaged in the middle would crash the JVM; what fails them is not
    # used.
    verify = ("-XX:+UnlockDiagnosticVMOptions", "-XX:+VerifySharedSpaces")
    # Its warnings are about single classes that it could not keep, and mean nothing to a reader of the broker's log.
    return [f"-XX:AOTCache={cache}", *verify, "-Xlog:disable", "-Xlog:all=error:stderr"]


async def train(classpath: Sequence[Path], cache: Path) -> None:
    """Makes the cache: a throwaway broker is started, asked once and stopped. About ten seconds of one core.

    Raises StackError, OSError or TimeoutError if that fails; then there is no cache.
    """
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="runfold-aot-") as scratch:
        directory = Path(scratch)
        port, controller_port = choose("127.0.0.1", None), choose("127.0.0.1", None)
        login = kafka_login.make_login(directory)
        place = kafka.KafkaPlace(directory, directory / "log", "127.0.0.1", port, controller_port, "process", login)
        await kafka.prepare(place, lambda _detail: None)
        profile, draft = directory / "kafka.aotconf", cache.with_name(f".{cache.name}.{os.getpid()}")
        try:
            await _record(place, classpath, profile)
            assemble = [*("-XX:AOTMode=create", f"-XX:AOTConfiguration={profile}", f"-XX:AOTCache={draft}")]
            command = [*LOWEST_PRIORITY, *kafka.java_command(place, classpath, flags=assemble)]
            if await run_once(command, log=place.log) != 0:
                raise StackError(f"The JVM could not make its start cache {cache}.")
            draft.replace(cache)
            discard_unused(cache.parent)
        finally:
            draft.unlink(missing_ok=True)


def discard_unused(directory: Path) -> None:
    """Removes caches that no stack has used for long: those of JREs and jars that were replaced since."""
    for cache in directory.glob("kafka-*.aot"):
        if time.time() - cache.stat().st_mtime > UNUSED_SECONDS:
            cache.unlink(missing_ok=True)


async def _record(place: kafka.KafkaPlace, classpath: Sequence[Path], profile: Path) -> None:
    record = ("-XX:AOTMode=record", f"-XX:AOTConfiguration={profile}")
    command = [
        *LOWEST_PRIORITY,
        *kafka.java_command(place, classpath, "kafka.Kafka", str(place.settings), flags=record),
    ]
    process = await spawn(command, log=place.log)
    try:
        async with asyncio.timeout(BROKER_SECONDS):
            while process.returncode is None and not await kafka.answers(place):
                await asyncio.sleep(0.1)
    finally:
        # The profile is written while the JVM ends, so it needs more time than a broker to stop.
        await end(process, signal.SIGTERM, BROKER_SECONDS)


async def train_when_settled(classpath: Sequence[Path], cache: Path) -> None:
    """Makes the cache if it is missing, some time from now. Never raises: it is only about speed."""
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        if not flags(cache):
            await train(classpath, cache)
    except (StackError, OSError, TimeoutError):
        pass
