"""Where settings come from, which source wins, and how a wrong one is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runfold_log.cluster import KafkaCluster
from runfold_stack.config.services import without_password
from runfold_stack.config.settings import OTHER_VARIABLES, Settings, load_settings, misspelt_variables
from runfold_stack.errors import BadSetting


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RUNFOLD_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file, still empty."""
    path = tmp_path / "runfold.toml"
    path.touch()
    monkeypatch.setenv("RUNFOLD_CONFIG", str(path))
    return path


def test_without_any_source_there_are_defaults() -> None:
    settings = load_settings()
    assert (settings.namespace, settings.host, settings.port, settings.kafka) == ("runfold", "127.0.0.1", None, None)
    assert settings.data_dir == Path("runfold-data")


def test_an_option_wins_over_a_variable_over_the_file_over_the_default(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('port = 1\nhost = "::1"\nnamespace = "from_file"\n')
    monkeypatch.setenv("RUNFOLD_PORT", "2")
    monkeypatch.setenv("RUNFOLD_HOST", "0.0.0.0")
    settings = load_settings(port=3, host=None)
    assert (settings.port, settings.host, settings.namespace) == (3, "0.0.0.0", "from_file")
    assert settings.partitions == Settings.model_fields["partitions"].default


def test_keys_of_s3_come_in_pairs_and_the_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFOLD_S3_SECRET_KEY", "the-secret")
    with pytest.raises(BadSetting, match="RUNFOLD_S3_ACCESS_KEY and RUNFOLD_S3_SECRET_KEY belong together") as failure:
        load_settings()
    assert "the-secret" not in str(failure.value)
    monkeypatch.setenv("RUNFOLD_S3_ACCESS_KEY", "the-key")
    assert "the-secret" not in repr(load_settings())


def test_a_password_of_kafka_needs_a_protocol_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFOLD_KAFKA_PASSWORD", "the-secret")
    monkeypatch.setenv("RUNFOLD_KAFKA_USERNAME", "me")
    with pytest.raises(BadSetting, match="need RUNFOLD_KAFKA_SECURITY_PROTOCOL=SASL_SSL") as failure:
        load_settings()
    assert "the-secret" not in str(failure.value)
    monkeypatch.setenv("RUNFOLD_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    settings = load_settings()
    assert "the-secret" not in repr(settings)
    assert settings.with_kafka(KafkaCluster("b:1", settings.kafka_access())).kafka_access() == settings.kafka_access()


def test_a_variable_that_is_set_to_nothing_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(f"RUNFOLD_{name.upper()}", "")
    assert load_settings() == Settings()


WRONG = [
    ("namespace", "Bad-Name", "lower-case"),
    ("kafka", "nonsense", "host:port"),
    ("kafka", "a:1,b", "'b' is not host:port"),
    ("postgres", "mysql://a", "DSN"),
    ("port", "65536", "65535"),
    ("port", "http", "integer"),
    ("partitions", "0", "greater than or equal to 1"),
    ("replication", "0", "greater than or equal to 1"),
    ("retention_ms", "-2", "-1"),
    ("durability", "none", "'process' or 'fsync'"),
    ("read_wait", "0", "greater than 0"),
    ("server_workers", "65", "64"),
    ("s3_endpoint", "localhost:8333", "URL"),
    ("s3_endpoint", "http://key:secret@host", "without keys"),
    ("s3_bucket", "No_Bucket", "pattern"),
    ("log_level", "loud", "'debug'"),
]


@pytest.mark.parametrize(("name", "value", "why"), WRONG)
def test_a_wrong_setting_is_named_by_its_source(
    name: str, value: str, why: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f'{name} = "{value}"\n')
    with pytest.raises(BadSetting) as in_file:
        load_settings()
    monkeypatch.setenv(f"RUNFOLD_{name.upper()}", value)
    with pytest.raises(BadSetting) as in_variable:
        load_settings()
    with pytest.raises(BadSetting) as in_option:
        load_settings(**{name: value})
    assert f"{name} in the file {file}" in str(in_file.value)
    assert f"RUNFOLD_{name.upper()}" in str(in_variable.value)
    assert f"--{name.replace('_', '-')}" in str(in_option.value)
    for told in (in_file, in_variable, in_option):
        assert why in str(told.value)
        assert len(str(told.value).splitlines()) == 1


def test_all_wrong_settings_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFOLD_PARTITIONS", "0")
    monkeypatch.setenv("RUNFOLD_NAMESPACE", "Bad")
    with pytest.raises(BadSetting) as told:
        load_settings()
    assert len(str(told.value).splitlines()) == 2


def test_a_key_of_the_file_that_is_no_setting_is_refused_with_those_that_are(file: Path) -> None:
    file.write_text("partitons = 3\n")
    with pytest.raises(BadSetting, match=r"partitons in the file .*: there is no such setting; there are .*partitions"):
        load_settings()


def test_a_file_that_can_not_be_read_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("port = ")
    with pytest.raises(BadSetting, match="is not TOML"):
        load_settings()
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadSetting, match="is not TOML"):
        load_settings()
    monkeypatch.setenv("RUNFOLD_CONFIG", str(file.with_name("absent")))
    with pytest.raises(BadSetting, match=r"RUNFOLD_CONFIG names .*absent, which can't be read"):
        load_settings()


def test_a_password_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFOLD_POSTGRES", "mysql://user:secret@host/db")
    with pytest.raises(BadSetting) as told:
        load_settings()
    assert "secret" not in str(told.value)
    assert without_password("postgresql://user:secret@host:5432/db") == "postgresql://user:…@host:5432/db"
    assert without_password("postgresql://host/db?user=a&password=secret&port=1").count("secret") == 0
    assert without_password("postgresql://runfold@/runfold?host=/tmp/x") == "postgresql://runfold@/runfold?host=/tmp/x"


@pytest.mark.parametrize("wrong", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.1 10.0.0.2"])
def test_a_trusted_proxy_is_an_address_or_a_network(wrong: str) -> None:
    assert load_settings(trusted_proxies=" 10.0.0.1, fd00::/8").trusted_proxy_list == ("10.0.0.1", "fd00::/8")
    with pytest.raises(BadSetting, match="no address and no network") as told:
        load_settings(trusted_proxies=f"127.0.0.1,{wrong}")
    assert repr(wrong) in str(told.value)


def test_a_child_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(port=7, kafka="a:1,b:2", read_wait=2.5, data_dir=Path("/somewhere"))
    for name, value in settings.variables().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_every_setting_is_documented() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
    assert all(OTHER_VARIABLES.values())


def test_a_misspelt_variable_is_seen() -> None:
    assert misspelt_variables({"RUNFOLD_PARTITONS": "3"}) == [("RUNFOLD_PARTITONS", "RUNFOLD_PARTITIONS")]
    known = {f"RUNFOLD_{name.upper()}": "" for name in Settings.model_fields} | dict(OTHER_VARIABLES)
    assert misspelt_variables(known | {"RUNFOLD_CONFIG": "x", "RUNFOLD_TEST_KAFKA": "x", "PATH": "x"}) == []
