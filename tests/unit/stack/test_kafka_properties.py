"""The embedded broker's configuration."""

from __future__ import annotations

from pathlib import Path

from runfold_stack.embedded import kafka
from runfold_stack.embedded.kafka import KafkaPlace
from runfold_stack.embedded.kafka_login import KafkaLogin


def place(**changes: object) -> KafkaPlace:
    values: dict[str, object] = {
        "directory": Path("k"),
        "log": Path("k.log"),
        "host": "127.0.0.1",
        "port": 20_001,
        "controller_port": 20_002,
        "durability": "process",
        "login": KafkaLogin("p", "c"),
    }
    return KafkaPlace(**(values | changes))  # type: ignore[arg-type]


def test_durability_fsync_flushes_every_record() -> None:
    assert "log.flush.interval.messages" not in kafka.server_properties(place())
    assert kafka.server_properties(place(durability="fsync"))["log.flush.interval.messages"] == "1"


def test_the_broker_advertises_the_port_it_listens_on() -> None:
    settings = kafka.server_properties(place(port=20_777))
    assert settings["advertised.listeners"] == "CLIENTS://127.0.0.1:20777"
    assert kafka.server_properties(place(host="::1"))["advertised.listeners"] == "CLIENTS://[::1]:20001"


def test_a_wildcard_host_is_not_advertised() -> None:
    assert not kafka.server_properties(place(host="0.0.0.0"))["advertised.listeners"].startswith("CLIENTS://0.0.0.0")


def test_a_cluster_id_is_no_command_line_option() -> None:
    ids = {kafka.new_cluster_id() for _ in range(500)}
    assert all(len(each) == 22 and not each.startswith("-") for each in ids)
