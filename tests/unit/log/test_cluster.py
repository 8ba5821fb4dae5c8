"""Who a client of Kafka's is: from variables and back, and what does not fit together."""

import pytest

from runfold_log.cluster import KafkaCluster, KafkaSecurity
from runfold_schemas.errors import BadKafkaSecurity


def test_variables_say_all_of_it() -> None:
    for security in (
        KafkaSecurity(),
        KafkaSecurity("SSL", ca_file="/ca.pem"),
        KafkaSecurity("SASL_PLAINTEXT", "SCRAM-SHA-256", "me", "secret"),
        KafkaSecurity("SASL_SSL", "PLAIN", "me", "secret", "/ca.pem"),
    ):
        assert KafkaSecurity.from_environment(security.variables()) == security


def test_a_variable_that_is_set_to_nothing_counts_as_unset() -> None:
    assert KafkaSecurity.from_environment(dict.fromkeys(("RUNFOLD_KAFKA_PASSWORD", "RUNFOLD_KAFKA_CA_FILE"), "")) == (
        KafkaSecurity()
    )


def test_a_cluster_never_shows_its_password() -> None:
    cluster = KafkaCluster("a:1,b:2", KafkaSecurity("SASL_PLAINTEXT", username="me", password="secret"))
    assert (str(cluster), "secret" in f"{cluster!r} {cluster} {cluster.hint()}") == ("a:1,b:2", False)
    assert cluster.options()["sasl_plain_password"] == "secret"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"SECURITY_PROTOCOL": "sasl"}, "must be one of PLAINTEXT, SSL"),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "USERNAME": "me"},
            "needs RUNFOLD_KAFKA_USERNAME and RUNFOLD_KAFKA_PASSWORD",
        ),
        ({"USERNAME": "me", "PASSWORD": "secret"}, "need RUNFOLD_KAFKA_SECURITY_PROTOCOL"),
        ({"SASL_MECHANISM": "GSSAPI"}, "must be one of SCRAM-SHA-512"),
        ({"CA_FILE": "/ca.pem"}, "needs RUNFOLD_KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL"),
    ],
)
def test_parts_that_do_not_fit_are_named(given: dict[str, str], says: str) -> None:
    with pytest.raises(BadKafkaSecurity, match=says) as failure:
        KafkaSecurity.from_environment({f"RUNFOLD_KAFKA_{name}": value for name, value in given.items()})
    assert "secret" not in str(failure.value)
