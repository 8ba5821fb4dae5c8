"""The registry over HTTP, on real Kafka and Postgres."""

from collections.abc import Iterator
from typing import Any

import pytest
from server_world import World, world
from services import Services

CREATE = "/api/2.0/mlflow/registered-models/create"
GET = "/api/2.0/mlflow/registered-models/get"


@pytest.fixture(scope="module")
def served(services: Services) -> Iterator[World]:
    with world(services) as made:
        yield made


def test_a_model_that_was_created_is_read_from_the_other_server(served: World) -> None:
    with served.client(0) as one, served.client(1) as other:
        made: dict[str, Any] = one.post(
            CREATE, json={"name": "first", "tags": [{"key": "a", "value": "1"}], "description": "what it is"}
        ).json()["registered_model"]
        assert other.get(GET, params={"name": "first"}).json()["registered_model"] == made
        assert (made["name"], made["description"], made["tags"]) == (
            "first",
            "what it is",
            [{"key": "a", "value": "1"}],
        )
        assert made["creation_timestamp"] == made["last_updated_timestamp"]


def test_a_name_is_given_once(served: World) -> None:
    with served.client() as client:
        assert client.post(CREATE, json={"name": "once"}).status_code == 200
        again = client.post(CREATE, json={"name": "once"})
        assert (again.status_code, again.json()["error_code"], again.json()["message"]) == (
            400,
            "RESOURCE_ALREADY_EXISTS",
            "Registered Model (name=once) already exists.",
        )
        absent = client.get(GET, params={"name": "never"})
        assert (absent.status_code, absent.json()["message"]) == (404, "Registered Model with name=never not found")
