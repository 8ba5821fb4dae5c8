"""The thinnest path through all rooms."""

import httpx2

from tests.support.installations.installation import Installation, difference


async def test_a_write_to_one_server_is_read_from_another_and_a_replay_gives_the_same_rows(
    installation: Installation,
) -> None:
    installation.worker()
    one, other = installation.server(), installation.server()
    async with httpx2.AsyncClient(timeout=30) as client:
        for n in range(20):
            created = await client.post(f"{one.url}/api/2.0/mlflow/experiments/create", json={"name": f"e{n}"})
            assert created.status_code == 200, created.text
            experiment_id = created.json()["experiment_id"]
            found = await client.get(
                f"{other.url}/api/2.0/mlflow/experiments/get", params={"experiment_id": experiment_id}
            )
            assert found.json()["experiment"]["name"] == f"e{n}"
    await installation.settled()
    assert difference(await installation.rows(), await installation.replayed()) == ""
