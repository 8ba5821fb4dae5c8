"""The MLflow plugin for tracking URIs with `runfold+http`, `runfold+https` and `runfold+kafka`."""
