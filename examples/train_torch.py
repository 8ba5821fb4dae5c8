"""Train data-parallel with PyTorch, and resume from the last checkpoint after a restart, as one run.

    torchrun --nproc-per-node 4 --rdzv-id my-job --max-restarts 3 examples/train_torch.py --checkpoint /tmp/my-job.pt

Every process logs its own loss under its rank. A restart is a new attempt at the same run. It passes the step it
resumes from, so the series shows the steps that led to the final model, and the abandoned steps stay in the history.
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
    args = parser.parse_args()

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    teacher = torch.randn(64, 1)

    # Step of the checkpoint; None at the first start.
    resumed_step = None
    if args.checkpoint.exists():
        saved = torch.load(args.checkpoint)
        model.module.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        resumed_step = saved["step"]

    params = {"lr": 0.05, "hidden": 64, "world_size": dist.get_world_size()}
    with runfold.run(args.experiment, params=params, start_step=resumed_step) as run:
        for step in range(0 if resumed_step is None else resumed_step + 1, args.steps):
            # Each rank has its own data, which is the same in every attempt.
            data = torch.Generator().manual_seed(step * dist.get_world_size() + rank)
            x = torch.randn(32, 64, generator=data)
            loss = (model(x) - x @ teacher).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log({"loss": loss}, step=step)
            if step % args.every == args.every - 1:
                # No later attempt logs these steps again, so all ranks save them before the checkpoint takes effect.
                run.save()
                dist.barrier()
                if rank == 0:
                    save(args.checkpoint, model, optimizer, step)
                    print(f"checkpoint at step {step} of run {run.id}", flush=True)
    dist.destroy_process_group()


def save(path: Path, model: DistributedDataParallel, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the checkpoint atomically."""
    temporary = path.with_suffix(".new")
    torch.save({"model": model.module.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, temporary)
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
