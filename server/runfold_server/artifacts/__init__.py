"""Routes of artifacts: bytes go to an S3 store, facts about them to the log.

Keys of objects are never used twice. A file exists once its `ArtifactStored` is in the log, so an interrupted upload
leaves an unnamed object, never half a file.
"""
