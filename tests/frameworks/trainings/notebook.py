"""Two trainings one after the other by Accelerate's `notebook_launcher`, each of two processes that print their run."""

import os
import sys

from accelerate import notebook_launcher

import runfold


def train() -> None:
    with runfold.run(sys.argv[1]) as run:
        for step in range(3):
            run.log({f"of {os.environ['RANK']}": 1.0}, step=step)
    print(f"run {run.id}", flush=True)


for _ in range(2):
    notebook_launcher(train, (), num_processes=2)
