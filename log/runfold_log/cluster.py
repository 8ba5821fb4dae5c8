"""Which Kafka, and as whom. Every client of Kafka's is made with `KafkaCluster.options()`."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from runfold_schemas.errors import BadKafkaSecurity

PREFIX = "RUNFOLD_KAFKA_"
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """What brokers ask of a client. BadKafkaSecurity if the parts don't fit each other."""

    protocol: str = "PLAINTEXT"
    mechanism: str = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise BadKafkaSecurity(problem)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """As the variables RUNFOLD_KAFKA_* say; a variable that is set to nothing counts as unset."""
        names = {
            "SECURITY_PROTOCOL": "protocol",
            "SASL_MECHANISM": "mechanism",
            "USERNAME": "username",
            "PASSWORD": "password",
            "CA_FILE": "ca_file",
        }
        found = {name: environment.get(f"{PREFIX}{variable}") for variable, name in names.items()}
        return cls(**{name: value for name, value in found.items() if value})

    def variables(self) -> dict[str, str]:
        """The variables that say the same."""
        sasl = self.protocol.startswith("SASL")
        values = {
            "SECURITY_PROTOCOL": self.protocol,
            "SASL_MECHANISM": self.mechanism if sasl else None,
            "USERNAME": self.username,
            "PASSWORD": self.password,
            "CA_FILE": self.ca_file,
        }
        return {f"{PREFIX}{name}": value for name, value in values.items() if value}

    def options(self) -> dict[str, Any]:
        """Arguments for a client of aiokafka's. OSError: the CA file can't be read."""
        found: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.startswith("SASL"):
            found |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        if self.protocol.endswith("SSL"):
            found["ssl_context"] = ssl.create_default_context(cafile=self.ca_file)
        return found

    def _problem(self) -> str:
        sasl = self.protocol.startswith("SASL")
        if self.protocol not in PROTOCOLS:
            return f"{PREFIX}SECURITY_PROTOCOL is {self.protocol!r}; it must be one of {', '.join(PROTOCOLS)}"
        if self.mechanism not in MECHANISMS:
            return f"{PREFIX}SASL_MECHANISM is {self.mechanism!r}; it must be one of {', '.join(MECHANISMS)}"
        if sasl and not (self.username and self.password):
            return f"{PREFIX}SECURITY_PROTOCOL={self.protocol} needs {PREFIX}USERNAME and {PREFIX}PASSWORD"
        if not sasl and (self.username or self.password):
            return f"{PREFIX}USERNAME and {PREFIX}PASSWORD need {PREFIX}SECURITY_PROTOCOL=SASL_SSL (or SASL_PLAINTEXT)"
        if self.ca_file and not self.protocol.endswith("SSL"):
            return f"{PREFIX}CA_FILE needs {PREFIX}SECURITY_PROTOCOL=SSL or SASL_SSL"
        return ""


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """A Kafka to connect to. As a text it is its brokers, `host:port,host:port`, which may be shown to everybody."""

    brokers: str
    security: KafkaSecurity = field(default_factory=KafkaSecurity)

    def __str__(self) -> str:
        return self.brokers

    def hint(self) -> str:
        """Hint for the error that it does not answer: brokers close the connection of an unknown client silently."""
        if self.security.username is None:
            return f" (if it asks for a password, set {PREFIX}SECURITY_PROTOCOL, {PREFIX}USERNAME and {PREFIX}PASSWORD)"
        return f" (or it does not take the password of user {self.security.username!r})"

    def options(self) -> dict[str, Any]:
        """Where a client of aiokafka's connects, and as whom."""
        return {"bootstrap_servers": self.brokers, **self.security.options()}
