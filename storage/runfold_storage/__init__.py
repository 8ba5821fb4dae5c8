"""The one way to S3: a client of the bucket, and objects as streams."""
