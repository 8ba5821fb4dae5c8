"""The registry over HTTP, on real Kafka and Postgres."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.support.installations.server_pair import ServerPair, server_pair
from tests.support.services.running import Services

MLFLOW = "/api/2.0/mlflow/"
CREATE = f"{MLFLOW}registered-models/create"
GET = f"{MLFLOW}registered-models/get"


@pytest.fixture(scope="module")
def served(services: Services) -> Iterator[ServerPair]:
    with server_pair(services) as made:
        yield made


def test_a_model_that_was_created_is_read_from_the_other_server(served: ServerPair) -> None:
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


def test_a_name_is_given_once(served: ServerPair) -> None:
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


def test_what_others_undo_at_once_is_answered_as_it_was_decided(served: ServerPair) -> None:
    """A 500 for what took effect would be sent again by MLflow's client, and a version made twice."""
    names = ("undone", "undone too")

    def write(number: int) -> list[tuple[int, Any]]:
        found = []
        with served.client(number % 2) as client:
            for turn in range(25):
                name = names[(number + turn) % 2]
                for method, path, body in (
                    ("POST", "registered-models/create", {}),
                    ("POST", "model-versions/create", {"source": f"s3://b/{number}/{turn}"}),
                    ("PATCH", "model-versions/update", {"version": "1", "description": f"{number}/{turn}"}),
                    ("PATCH", "registered-models/update", {"description": f"{number}/{turn}"}),
                    ("POST", "registered-models/rename", {"new_name": names[(number + turn + 1) % 2]}),
                    ("DELETE", "registered-models/delete", {}),
                ):
                    answer: httpx2.Response = client.request(method, f"{MLFLOW}{path}", json={"name": name, **body})
                    found.append((answer.status_code, answer.json()))
                    if path == "model-versions/create" and answer.status_code == 200:
                        assert answer.json()["model_version"]["source"] == body["source"]
        return found

    with ThreadPoolExecutor(8) as pool:
        answers = [one for found in pool.map(write, range(8)) for one in found]
    assert [said for status, said in answers if status >= 500] == []
    assert {status for status, _ in answers} == {200, 400, 404}
