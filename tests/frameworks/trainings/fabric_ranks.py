"""A rank under Lightning Fabric, whose `launch` starts the others by itself if no launcher did."""

import os
import sys

import torch
from lightning.fabric import Fabric

import runfold

fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
if "LT_CLI_USED" not in os.environ:
    fabric.launch()
with runfold.run(sys.argv[1]) as run:
    total = fabric.all_reduce(torch.ones(1), reduce_op="sum")
    for step in range(3):
        run.log({f"of {fabric.global_rank}": total}, step=step)
    print(f"run {run.id}", flush=True)
    fabric.barrier()
