"""Lightning's `strategy="ddp"` on two CPU processes: a run that begins before there is a launcher, and one that begins
within the fit.
"""

import sys

import lightning as L
from lightning_parts import Net, batches

import runfold


class Logging(L.Callback):
    """Logs under the rank, to a run of before the fit and to one of the fit."""

    def __init__(self, before: runfold.Run) -> None:
        self.before = before

    def on_train_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        self.within = runfold.run(sys.argv[1], name="within")

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        for run in (self.before, self.within):
            run.log({f"of {trainer.global_rank}": trainer.callback_metrics["train_loss"]}, step=trainer.global_step - 1)

    def on_train_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        trainer.strategy.barrier()
        self.within.finish()
        print(f"run {self.within.id}", flush=True)


with runfold.run(sys.argv[1], name="before") as run:
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", callbacks=[Logging(run)], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_train_batches=3,
        limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(Net(), batches(96))
    print(f"run {run.id}", flush=True)
