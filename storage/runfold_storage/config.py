"""How the S3 store is reached."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class S3Config:
    """An S3 store and the bucket in it. Without keys they are found as Amazon's tools find theirs."""

    endpoint: str
    bucket: str = "runfold"
    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
