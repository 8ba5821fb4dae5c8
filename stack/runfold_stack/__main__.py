"""`python -m runfold_stack` is `runfold`."""

from runfold_stack.commands.main import main

main()
