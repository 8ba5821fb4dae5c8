"""What MLflow's client loads for the schemes `runfold+http`, `runfold+https` and `runfold+kafka`."""
