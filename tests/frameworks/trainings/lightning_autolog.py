"""Lightning under MLflow's autolog with checkpoints: a checkpoint and the model are loaded back."""

import json
import sys

import lightning as L
import mlflow
import torch
from lightning_parts import Net, batches

L.seed_everything(1, verbose=False)
mlflow.set_experiment(sys.argv[1])
mlflow.pytorch.autolog(
    checkpoint=True, checkpoint_monitor="val_loss", checkpoint_save_best_only=False, checkpoint_save_freq="epoch"
)
trainer = L.Trainer(
    max_epochs=3, accelerator="cpu", devices=1, logger=False, enable_checkpointing=True, log_every_n_steps=1,
    enable_progress_bar=False, enable_model_summary=False,
)  # fmt: skip
net = Net()
with mlflow.start_run(run_name="mine") as run:
    trainer.fit(net, batches(), batches(32))
checkpoint = mlflow.pytorch.load_checkpoint(Net, run_id=run.info.run_id, epoch=2)
model = mlflow.pytorch.load_model(f"runs:/{run.info.run_id}/model")
same = [
    all(torch.equal(value, net.state_dict()[key]) for key, value in one.state_dict().items())
    for one in (checkpoint, model)
]
print(json.dumps({"run": run.info.run_id, "same": same}))
