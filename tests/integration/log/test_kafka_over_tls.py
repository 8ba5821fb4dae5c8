"""An external Kafka that requires a password over TLS: a real broker with one listener more than ours."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runfold_log.admin import create_log, open_log
from runfold_log.cluster import KafkaCluster, KafkaSecurity
from runfold_log.errors import LogUnavailable
from runfold_log.topics import LogSettings
from runfold_stack.embedded import kafka
from runfold_stack.embedded.kafka_login import MECHANISM, make_login
from runfold_stack.embedded.ports import choose
from runfold_stack.supervision.process import end, spawn, tail


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """A key store, and the certificate in it as PEM."""
    store, pem = directory / f"{name}.p12", directory / f"{name}.pem"
    keytool = [str(kafka.java_home() / "bin" / "keytool"), "-keystore", str(store), "-storepass", "store-password"]
    extensions = ["-ext", "san=ip:127.0.0.1", "-ext", "bc=ca:true"]
    make = ["-genkeypair", "-alias", name, "-keyalg", "EC", "-dname", f"CN={name}", "-storetype", "PKCS12", *extensions]
    subprocess.run([*keytool, *make], check=True, capture_output=True)
    subprocess.run(
        [*keytool, "-exportcert", "-rfc", "-alias", name, "-file", str(pem)], check=True, capture_output=True
    )
    return store, pem


@asynccontextmanager
async def broker(directory: Path, store: Path) -> AsyncIterator[tuple[kafka.KafkaPlace, str]]:
    """A broker, and the address of its listener with TLS."""
    ports: set[int] = set()
    while len(ports) < 3:
        ports.add(choose("127.0.0.1", None, avoid=ports))
    clients, controller, tls = ports
    place = kafka.KafkaPlace(
        directory, directory / "log", "127.0.0.1", clients, controller, "process", make_login(directory)
    )
    classpath = await kafka.prepare(place, lambda _: None)
    settings = kafka.server_properties(place)
    for name, more in (
        ("listeners", f"TLS://127.0.0.1:{tls}"),
        ("advertised.listeners", f"TLS://127.0.0.1:{tls}"),
        ("listener.security.protocol.map", "TLS:SASL_SSL"),
    ):
        settings[name] += f",{more}"
    settings["listener.name.tls.ssl.keystore.location"] = str(store)
    settings["listener.name.tls.ssl.keystore.type"] = "PKCS12"
    settings["listener.name.tls.ssl.keystore.password"] = "store-password"
    for name in ("sasl.enabled.mechanisms", "scram-sha-512.sasl.jaas.config"):
        settings[f"listener.name.tls.{name}"] = settings[f"listener.name.clients.{name}"]
    place.settings.write_text(kafka.render(settings))
    process = await spawn(kafka.java_command(place, classpath, "kafka.Kafka", str(place.settings)), log=place.log)
    try:
        async with asyncio.timeout(60):
            while not await kafka.answers(place):
                assert process.returncode is None, tail(place.log)
                await asyncio.sleep(0.1)
        yield place, f"127.0.0.1:{tls}"
    finally:
        await end(process, signal.SIGTERM, 20)


async def test_password_and_certificate_of_a_cluster_are_checked(tmp_path: Path) -> None:
    store, pem = certificate(tmp_path, "broker")
    _, other = certificate(tmp_path, "other")
    async with broker(tmp_path / "kafka", store) as (place, address):

        def cluster(password: str, ca_file: Path | None) -> KafkaCluster:
            ca = None if ca_file is None else str(ca_file)
            return KafkaCluster(address, KafkaSecurity("SASL_SSL", MECHANISM, "runfold", password, ca))

        mine = cluster(place.login.password, pem)
        info = await create_log(mine, "secured", LogSettings(partitions=1), release="test")
        assert await open_log(mine, "secured") == info
        for refused in (
            cluster("wrong", pem),
            cluster(place.login.password, other),
            cluster(place.login.password, None),
            KafkaCluster(address),
        ):
            with pytest.raises(LogUnavailable):
                await open_log(refused, "secured")
