"""A data-parallel training that goes on from its last checkpoint when it is restarted: one run, whatever happens to its
processes.

    torchrun --nproc-per-node 4 --rdzv-id my-job --max-restarts 3 examples/train_torch.py --checkpoint /tmp/my-job.pt

Every process logs its own loss under its rank. A restart is a new attempt of the same run; it says from which step it
goes on, so that the series shows what was trained in the end, and the abandoned steps stay in the history.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import runfold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--experiment", default="torch")
    given = parser.parse_args()

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    teacher = torch.randn(64, 1)

    # The step of the checkpoint; None: from the beginning.
    resumed = None
    if given.checkpoint.exists():
        saved = torch.load(given.checkpoint)
        model.module.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        resumed = saved["step"]

    params = {"lr": 0.05, "hidden": 64, "world_size": dist.get_world_size()}
    with runfold.run(given.experiment, params=params, start_step=resumed) as run:
        for step in range(0 if resumed is None else resumed + 1, given.steps):
            # Each rank has data of its own, the same in every attempt.
            data = torch.Generator().manual_seed(step * dist.get_world_size() + rank)
            x = torch.randn(32, 64, generator=data)
            loss = (model(x) - x @ teacher).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log({"loss": loss}, step=step)
            if step % given.every == given.every - 1:
                # What no attempt will log again must be safe before the checkpoint is: on all ranks.
                run.save()
                dist.barrier()
                if rank == 0:
                    save(given.checkpoint, model, optimizer, step)
                    print(f"checkpoint at step {step} of run {run.id}", flush=True)
    dist.destroy_process_group()


def save(path: Path, model: DistributedDataParallel, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Whole, or not at all."""
    new = path.with_suffix(".new")
    torch.save({"model": model.module.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, new)
    os.replace(new, path)


if __name__ == "__main__":
    main()
