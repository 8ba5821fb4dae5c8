"""Settings of the programs: options of the command line, else `RUNFOLD_*` variables, else the TOML file that
`RUNFOLD_CONFIG` names, else defaults. A variable that is set to nothing counts as unset.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from runfold_log.cluster import KafkaCluster, KafkaSecurity
from runfold_schemas.positions.topics import NAMESPACE
from runfold_stack.errors import BadSetting

PREFIX = "RUNFOLD_"
CONFIG_FILE = "RUNFOLD_CONFIG"
OTHER_VARIABLES = {
    "RUNFOLD_TRACKING_URI": "Where `import runfold` finds the server, or kafka://brokers/namespace?api=http://…; unset: http://127.0.0.1:5000.",
    "RUNFOLD_API_URI": "The API server beside a kafka:// address that has no ?api=.",
    "RUNFOLD_AS_OF": "A time or a position vector: MLflow's client, by a plugin of this package, asks about that "
    "moment; unset: the present.",
    "RUNFOLD_MODE": "online, or offline: a run of `import runfold` is only written to the spool; unset: online.",
    "RUNFOLD_RUN_ID": "Id of the run that all processes of a job write; unset: the launcher's, else each process "
    "has a run of its own.",
    "RUNFOLD_RANK": "Rank of a process; unset: the launcher's.",
    "RUNFOLD_WORLD_SIZE": "How many processes write the run; unset: the launcher's.",
    "RUNFOLD_ATTEMPT": "An id for this start of the job, any text; unset: the launcher's, or one of its own. "
    "Empty: this process is no part of the job.",
    "RUNFOLD_LAUNCHER": "off: the launcher's variables are not read; unset: auto.",
    "RUNFOLD_SPOOL_DIR": "Where such runs keep what is not acknowledged; unset: $XDG_STATE_HOME/runfold/spool, "
    "else ~/.local/state/runfold/spool.",
    "RUNFOLD_SPOOL_MB": "Disk, in MB, that a run may take there, all its processes on this machine together; "
    "unset: 1024.",
    "RUNFOLD_SPOOL_FULL": "refuse, or block: what a log call does when that is used up; unset: refuse.",
    "RUNFOLD_SPOOL_FSYNC": "1: what is saved there survives the machine's death too; unset: the process's only.",
    "RUNFOLD_REQUIRE_SERVER": "1: a run does not start unless the server answers; unset: it starts, and is sent later.",
    "RUNFOLD_BUFFER_MB": "Memory, in MB, that such a run may hold until it is saved to the spool; unset: 64.",
    "RUNFOLD_FINISH_TIMEOUT": "Seconds that the end of such a run waits for the server; unset: 60.",
    "RUNFOLD_ON_REJECTION": "warn, or raise: what the end of such a run does if the server refused something; "
    "unset: warn.",
}
"""Variables that are no settings of the programs: training code reads them."""

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """All settings, with their defaults. A field `x_y` is the variable `RUNFOLD_X_Y` and the key `x_y` of the file."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    namespace: str = Field(
        "runfold", description="Names the topics, the Postgres schemas and the bucket prefix of one installation."
    )
    kafka: str | None = Field(
        None, description="Bootstrap servers of your own Kafka, host:port,…; unset: `runfold up` starts one."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT",
        description="How your own Kafka is spoken to: encrypted or not, with a user or without. Direct clients "
        "(kafka://) read it too.",
    )
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="How the user proves the password, with SASL_PLAINTEXT or SASL_SSL."
    )
    kafka_username: str | None = Field(None, description="User at your own Kafka.")
    kafka_password: str | None = Field(None, repr=False, description="The password of that user.")
    kafka_ca_file: str | None = Field(
        None, description="PEM file of the authority that signed the brokers' certificates; unset: the system's."
    )
    postgres: str | None = Field(None, description="DSN of your own Postgres; unset: `runfold up` starts one.")
    data_dir: Path = Field(Path("runfold-data"), description="Where the embedded services keep their data.")
    host: str = Field(
        "127.0.0.1",
        description="Address that the server and the worker's health listen on. The embedded services stay on "
        "127.0.0.1.",
    )
    port: Port | None = Field(
        None, description="Port of the server; unset: 5000, or a free one if that is taken; 0: a free one."
    )
    worker_port: Port = Field(0, description="Port of the worker's health and metrics; 0: a free one.")
    partitions: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        None,
        description="Partitions of runs and of metrics, fixed when the log is born; unset: 8 for a new log, else "
        "what the log has.",
    )
    replication: Annotated[int, Field(ge=1)] = Field(1, description="Replicas of each partition; 3 on a cluster.")
    min_insync_replicas: Annotated[int, Field(ge=1)] = Field(
        1, description="Replicas that must have an append before it is acknowledged; 2 on a cluster."
    )
    retention_ms: Annotated[int, Field(ge=-1)] = Field(-1, description="How long the log is kept, in ms; -1: for ever.")
    durability: Literal["process", "fsync"] = Field(
        "process",
        description="What an acknowledged write to the embedded Kafka survives: the death of every process, or "
        "(fsync) of the machine.",
    )
    s3_endpoint: str | None = Field(
        None,
        description="URL of your own S3 store, where the server keeps artifacts "
        "(https://s3.eu-central-1.amazonaws.com for Amazon's); "
        "unset: `runfold up` starts one.",
    )
    s3_bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] = Field(
        "runfold",
        description="Bucket of the artifacts; made if it is missing and the keys allow that. Objects lie below "
        "`<namespace>/artifacts/`.",
    )
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    s3_access_key: str | None = Field(
        None, description="Access key for the S3 store; unset: as Amazon's tools find theirs (AWS_* variables, a role)."
    )
    s3_secret_key: str | None = Field(None, repr=False, description="The secret that belongs to the access key.")
    artifact_check_days: Annotated[float, Field(ge=0, le=365)] = Field(
        7.0,
        description="The server reads every artifact once in so many days, to find bytes that are not those in the "
        "log; 0: never.",
    )
    server_workers: Annotated[int, Field(ge=1, le=64)] = Field(1, description="Processes of the server.")
    read_wait: Annotated[float, Field(gt=0, le=300)] = Field(
        10.0, description="Seconds a strong read or an outcome waits for the folds before it answers 503."
    )
    standby_hours: Annotated[float, Field(ge=0)] = Field(
        24.0,
        description="For how long a generation that was replaced is kept folded, so that `runfold rollback` goes "
        "back at once.",
    )
    replay_processes: Annotated[int, Field(ge=1, le=64)] = Field(
        2,
        description="Processes of low priority that each worker starts while a rebuild or a snapshot is folded, or "
        "a standby kept.",
    )
    allowed_hosts: str = Field(
        "",
        description="Names that the server and the worker's health are reached at beside loopback and private "
        "addresses, with commas; "
        "`*` is a wildcard. Requests for other names are denied: they may come from a page that rebinds its name "
        "to this machine.",
    )
    allowed_origins: str = Field(
        "",
        description="Origins, with commas, whose pages may write although they are not the server's own, such as https://notebooks.example.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks, with commas, of proxies before the server whose X-Forwarded-For and "
        "X-Forwarded-Proto are "
        "believed; anybody else's are passed over.",
    )
    webhook_schemes: Annotated[str, Field(pattern=r"^https?(,https?)?$")] = Field(
        "https", description="Schemes that the addresses of webhooks may have: https, http, or both with a comma."
    )
    webhook_private: bool = Field(
        False,
        description="Whether webhooks may be sent to addresses that are not public (127.0.0.1, 10.0.0.0/8, a "
        "cloud's metadata service).",
    )
    webhook_timeout: Annotated[float, Field(gt=0, le=60)] = Field(
        10.0, description="Seconds that the receiver of a webhook has for its answer."
    )
    webhook_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        12,
        description="How often a webhook is tried, with pauses that double from a second to an hour, before its "
        "delivery counts as failed.",
    )
    search_mb: Annotated[int, Field(ge=1)] = Field(
        512,
        description="Memory, in MB, that each process of the server may keep between searches: columns of runs, "
        "and runs as JSON.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of the programs' logs."
    )

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, value: str) -> str:
        if not NAMESPACE.fullmatch(value):
            raise ValueError("use 1 to 40 lower-case letters, digits and underscores, beginning with a letter")
        return value

    @field_validator("kafka")
    @classmethod
    def _kafka(cls, value: str | None) -> str | None:
        for server in (value or "").split(",") if value is not None else ():
            host, colon, port = server.strip().rpartition(":")
            if not (host and colon and port.isdecimal()):
                raise ValueError(f"{server!r} is not host:port")
        return value

    @field_validator("postgres")
    @classmethod
    def _postgres(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("write a DSN such as postgresql://user@host:5432/database")
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _s3_endpoint(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/@?#]+/?", value):
            raise ValueError("write a URL such as http://host:8333, without a path and without keys")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _trusted_proxies(cls, value: str) -> str:
        for entry in _listed(value):
            try:
                ipaddress.ip_network(entry)
            except ValueError:
                raise ValueError(f"{entry!r} is no address and no network such as 10.0.0.0/8") from None
        return value

    @model_validator(mode="after")
    def _kafka_security(self) -> Self:
        self.kafka_access()
        return self

    @model_validator(mode="after")
    def _s3_keys(self) -> Self:
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            raise ValueError("RUNFOLD_S3_ACCESS_KEY and RUNFOLD_S3_SECRET_KEY belong together: set both or neither")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[Any, ...]:
        return init_settings, env_settings, _from_file

    def kafka_access(self) -> KafkaSecurity:
        """How the Kafka that is named lets us in."""
        return KafkaSecurity(
            self.kafka_security_protocol,
            self.kafka_sasl_mechanism,
            self.kafka_username,
            self.kafka_password,
            self.kafka_ca_file,
        )

    def with_kafka(self, kafka: KafkaCluster) -> Self:
        """The settings of a program that is to use this Kafka."""
        access = kafka.security
        return self.model_copy(
            update={
                "kafka": kafka.brokers,
                "kafka_security_protocol": access.protocol,
                "kafka_sasl_mechanism": access.mechanism,
                "kafka_username": access.username,
                "kafka_password": access.password,
                "kafka_ca_file": access.ca_file,
            }
        )

    @property
    def allowed_host_list(self) -> tuple[str, ...]:
        return _listed(self.allowed_hosts)

    @property
    def allowed_origin_list(self) -> tuple[str, ...]:
        return _listed(self.allowed_origins)

    @property
    def trusted_proxy_list(self) -> tuple[str, ...]:
        return _listed(self.trusted_proxies)

    def variables(self) -> dict[str, str]:
        """The settings as variables, to hand them to a child process."""
        values = self.model_dump(exclude_none=True, mode="json")
        return {PREFIX + name.upper(): str(value) for name, value in values.items()}


def _listed(text: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def _from_file() -> dict[str, Any]:
    path = os.environ.get(CONFIG_FILE)
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise BadSetting(f"{CONFIG_FILE} names {path}, which can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{CONFIG_FILE}: {path} is not TOML: {error}") from None


def load_settings(**given: Any) -> Settings:
    """Read and check the settings; what is given (and not None) wins. BadSetting names each setting that is wrong."""
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise BadSetting("\n".join(_problem(problem, given) for problem in error.errors(include_url=False))) from None


def _problem(problem: Any, given: Mapping[str, Any]) -> str:
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ")
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return f"{_source(name, given)}: there is no such setting; there are {', '.join(sorted(Settings.model_fields))}"
    what = problem["msg"].removeprefix("Value error, ")
    # A DSN may hold a password, and messages end in logs.
    shown = (
        ""
        if name in ("postgres", "s3_endpoint", "s3_secret_key", "kafka_password")
        else f" = {str(problem.get('input'))!r}"
    )
    return f"{_source(name, given)}{shown}: {what}"


def _source(name: str, given: Mapping[str, Any]) -> str:
    """Where a value came from, as its writer would say it."""
    if name in given:
        return f"--{name.replace('_', '-')}"
    variable = PREFIX + name.upper()
    if any(key.upper() == variable for key in os.environ):
        return variable
    return f"{name} in the file {os.environ.get(CONFIG_FILE)}"


def misspelt_variables(environ: Mapping[str, str] = os.environ) -> list[tuple[str, str]]:
    """Variables that look like a setting and are none, each with the one that was probably meant."""
    known = [PREFIX + name.upper() for name in Settings.model_fields] + [CONFIG_FILE, *OTHER_VARIABLES]
    mine = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return [(name, close) for name in mine for close in difflib.get_close_matches(name, known, 1, cutoff=0.85)]
