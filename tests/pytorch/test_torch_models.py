"""PyTorch models by the unmodified MLflow client: logged, registered, loaded.

`make test-torch` installs what it needs.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.installations.shared import shared_installation, start_together
from tests.support.services.running import Services

PYTHON = Path(__file__).parents[2] / ".bench" / "torch" / "bin" / "python"

SCRIPT = """
import json, sys, types, warnings
warnings.simplefilter("ignore")
import torch
if not hasattr(torch, "export"):
    # MLflow 3.17 imports it always and uses it for a format that Debian's PyTorch 1.13 has not.
    sys.modules["torch.export"] = torch.export = types.ModuleType("torch.export")
    torch.export.Dim = None
import mlflow
import mlflow.pytorch
import numpy as np
from mlflow import MlflowClient

torch.manual_seed(1)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
x = torch.rand(16, 4)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
checkpoints = []
with mlflow.start_run() as run:
    for step in range(3):
        loss = net(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mlflow.log_metric("loss", loss.item(), step=step)
        checkpoints.append(
            mlflow.pytorch.log_model(
                net, name=f"net-{step}", step=step, pip_requirements=[], serialization_format="pickle"
            )
        )
    mlflow.pytorch.log_state_dict(net.state_dict(), "state")
last = checkpoints[-1]
version = mlflow.register_model(last.model_uri, "net")
client = MlflowClient()
client.set_registered_model_alias("net", "prod", version.version)
want = net(x).detach().numpy()
same = {
    uri: bool(np.allclose(mlflow.pytorch.load_model(uri)(x).detach().numpy(), want))
    for uri in (last.model_uri, "models:/net/1", "models:/net@prod", checkpoints[0].model_uri)
}
same["pyfunc"] = bool(np.allclose(mlflow.pyfunc.load_model("models:/net@prod").predict(x.numpy()), want))
state = mlflow.pytorch.load_state_dict(f"runs:/{run.info.run_id}/state")
same["state"] = all(torch.equal(state[key], value) for key, value in net.state_dict().items())
outputs = [[output.model_id, output.step] for output in client.get_run(run.info.run_id).outputs.model_outputs]
metrics = [[(m.key, m.step) for m in client.get_logged_model(one.model_id).metrics] for one in checkpoints]
print(json.dumps({"same": same, "ids": [one.model_id for one in checkpoints], "outputs": outputs, "metrics": metrics}))
"""


@pytest.fixture(scope="module")
def url(services: Services, tmp_path_factory: pytest.TempPathFactory) -> object:
    with shared_installation(services, "torch_models", tmp_path_factory.mktemp("torch")) as installation:
        _, server = start_together(installation, "worker", "server")
        yield server.url


def test_checkpoints_come_back_by_id_version_and_alias_with_what_was_measured_of_them(url: str, tmp_path: Path) -> None:
    assert PYTHON.exists(), "run this with `make test-torch`"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": url, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [PYTHON, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    same = found["same"]
    # The first checkpoint is another model than the one that training ended with.
    assert list(same.values()) == [True, True, True, False, True, True], same
    assert found["outputs"] == [[model_id, step] for step, model_id in enumerate(found["ids"])]
    assert found["metrics"] == [[["loss", step]] for step in range(3)]
