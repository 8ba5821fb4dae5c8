"""A rank of an MPI job: it logs under its rank and prints its run."""

import sys

from mpi4py import MPI

import runfold

ranks = MPI.COMM_WORLD
with runfold.run(sys.argv[1]) as run:
    total = ranks.allreduce(1)
    for step in range(3):
        run.log({f"of {ranks.rank}": total}, step=step)
    print(f"run {run.id}", flush=True)
    ranks.barrier()
