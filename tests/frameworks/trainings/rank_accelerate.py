"""A rank of a training by Accelerate: it logs under its rank and prints its run."""

import sys

import torch
from accelerate import Accelerator

import runfold

accelerator = Accelerator(cpu=True)
with runfold.run(sys.argv[1]) as run:
    total = accelerator.reduce(torch.ones(1))
    for step in range(3):
        run.log({f"of {accelerator.process_index}": total}, step=step)
    print(f"run {run.id}", flush=True)
    accelerator.wait_for_everyone()
accelerator.end_training()
