"""Lightning's MLFlowLogger with `log_model="all"`: every checkpoint is uploaded as it is written, and one is loaded
back.

A second argument is the number of processes that Lightning's ddp trains with.
"""

import json
import os
import sys

import lightning as L
import mlflow
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import MLFlowLogger
from lightning_parts import Net, batches

L.seed_everything(1, verbose=False)
processes = int(sys.argv[2]) if len(sys.argv) > 2 else 1
uri = os.environ["MLFLOW_TRACKING_URI"]
logger = MLFlowLogger(sys.argv[1], run_name="mine", tracking_uri=uri, log_model="all", tags={"team": "x"})
checkpoints = ModelCheckpoint("checkpoints", "{epoch}", monitor="val_loss", save_top_k=2)
trainer = L.Trainer(
    max_epochs=3, accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto", logger=logger,
    callbacks=[checkpoints], log_every_n_steps=1, enable_progress_bar=False, enable_model_summary=False,
)  # fmt: skip
net = Net()
trainer.fit(net, batches(), batches(32))
if trainer.is_global_zero:
    best = os.path.splitext(os.path.basename(checkpoints.best_model_path))[0]
    path = mlflow.artifacts.download_artifacts(
        run_id=logger.run_id, artifact_path=f"{best}/{best}.ckpt", tracking_uri=uri
    )
    loaded = Net.load_from_checkpoint(path)
    same = all(torch.equal(value, net.state_dict()[key]) for key, value in loaded.state_dict().items())
    print(json.dumps({"run": logger.run_id, "same": same}))
