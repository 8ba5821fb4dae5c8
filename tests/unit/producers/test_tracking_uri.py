"""Tracking URIs that name a Kafka cluster."""

from __future__ import annotations

import pytest

import runfold
from runfold.tracking_uri import KafkaTarget, api_of, kafka_target


def test_a_kafka_address_names_brokers_namespace_and_who_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kafka_target("kafka://a:1,b:2/mine?api=http://c:5/") == KafkaTarget("a:1,b:2", "mine", "http://c:5")
    monkeypatch.setenv("RUNFOLD_API_URI", "https://d")
    assert kafka_target("kafka://a:1") == KafkaTarget("a:1", "runfold", "https://d")
    assert api_of("kafka://a:1") == "https://d"
    assert api_of("http://e") == "http://e"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("kafka://a:1", r"needs \?api=.*RUNFOLD_API_URI"),
        ("kafka://a:1?api=c:5", r"needs \?api="),
        ("kafka://a:1/Big?api=http://c", "namespace 'Big'"),
        ("kafka://a:1?api=http://c&acks=0", "api= is the only"),
        ("kafka://me:secret@a:1?api=http://c", "must not contain a user name or password"),
    ],
)
def test_a_kafka_address_that_can_not_be_used_says_why(uri: str, says: str) -> None:
    with pytest.raises(runfold.SdkError, match=says):
        kafka_target(uri)
