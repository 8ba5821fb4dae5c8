"""A rank under torchrun that logs under its rank and prints its run; rank 1 fails in the first attempt, once rank 0 has
logged.

Without a process group: PyTorch 2.15 can't connect one again after a restart if the rendezvous is a fixed port.
"""

import os
import sys
import time
from pathlib import Path

import runfold

rank, first = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
with runfold.run(sys.argv[1]) as run:
    for step in range(3):
        run.log({f"of {rank}": 1.0}, step=step)
    run.save()
    print(f"run {run.id}", flush=True)
    if first and rank == "0":
        Path("logged").touch()
        # torchrun ends it, since rank 1 has failed.
        time.sleep(300)
    while first and not Path("logged").exists():
        time.sleep(0.05)
    sys.exit(3 if first else 0)
