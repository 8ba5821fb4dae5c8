"""Artifacts: their bytes go to an S3 store, what is true of them goes to the log.

`store` puts and gets objects, whose keys are never used twice. A file exists once its `ArtifactStored` is in the log, so an upload
that dies half-way leaves an object that nobody names, and never half a file.
"""
