"""A rank of a PyTorch job: it logs under its rank and prints its run."""

import sys

import torch
import torch.distributed as dist

import runfold

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
with runfold.run(sys.argv[1]) as run:
    total = torch.ones(1)
    dist.all_reduce(total)
    for step in range(3):
        run.log({f"of {rank}": total}, step=step)
    print(f"run {run.id}", flush=True)
    dist.barrier()
dist.destroy_process_group()
