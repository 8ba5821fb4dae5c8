"""`python -m runfold_stack` is `runfold`."""

from .cli import main

main()
