"""What an export is: a folder with five Parquet files, and `export.json`, which is written last and says what the
others are.

    experiments.parquet   one row per experiment that has exported runs runs.parquet          one row per run, ordered
    by id lines.parquet         how a run's points hang together: its attempts, declared starts, rewinds and its fork,
    in the order of the log points.parquet        one row per point, by run, branch, attempt, rank and arrival; also
    those that a rewind cut off models.parquet        one row per logged model, ordered by id export.json
    format, SHA-256 of the files, what was asked for, and how far the log was folded

Times are ms since the epoch by the writers' clocks. A null rank means that the writer named none. Format 1 had no
logged models, and runs no outputs.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from runfold_stack.errors import BadExport, MissingPyarrow

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingPyarrow from error

FORMAT = 2
MANIFEST = "export.json"
EXPERIMENTS, RUNS, LINES, POINTS = "experiments.parquet", "runs.parquet", "lines.parquet", "points.parquet"
MODELS = "models.parquet"
FILES = (EXPERIMENTS, RUNS, LINES, POINTS, MODELS)
_FILES_OF = {1: FILES[:4], 2: FILES}
_NEW_COLUMNS = {(1, RUNS): ("outputs",)}
"""What an older format's files lack."""

_STRINGS = pa.map_(pa.string(), pa.string())
_NAMES = pa.dictionary(pa.int32(), pa.string())
_DATASET = pa.struct(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("source_type", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        ("schema", pa.string()),
        ("profile", pa.string()),
        ("tags", _STRINGS),
    ]
)
_ARTIFACT = pa.struct(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("object_key", pa.string()),
        ("stored_ms", pa.int64()),
    ]
)
_OUTPUT = pa.struct([pa.field("model_id", pa.string(), nullable=False), pa.field("step", pa.int64(), nullable=False)])
SCHEMAS: Mapping[str, Any] = {
    EXPERIMENTS: pa.schema(
        [
            ("experiment_id", pa.int64()),
            ("name", pa.string()),
            ("artifact_location", pa.string()),
            ("lifecycle_stage", pa.string()),
            ("created_ms", pa.int64()),
            ("updated_ms", pa.int64()),
            ("tags", _STRINGS),
        ]
    ),
    RUNS: pa.schema(
        [
            ("run_id", pa.string()),
            ("experiment", pa.string()),
            ("name", pa.string()),
            ("user_id", pa.string()),
            ("status", pa.string()),
            ("start_ms", pa.int64()),
            ("end_ms", pa.int64()),
            ("deleted_ms", pa.int64()),
            ("artifact_uri", pa.string()),
            ("params", _STRINGS),
            ("tags", _STRINGS),
            ("datasets", pa.list_(_DATASET)),
            ("models", pa.list_(pa.string())),
            ("artifacts", pa.list_(_ARTIFACT)),
            ("outputs", pa.list_(_OUTPUT)),
        ]
    ),
    LINES: pa.schema(
        [
            ("run_id", pa.string()),
            ("kind", pa.string()),
            ("attempt", pa.string()),
            ("attempt_branch", pa.int32()),
            ("cut", pa.int32()),
            ("rank", pa.int32()),
            ("step", pa.int64()),
            ("world_size", pa.int32()),
            ("parent_run_id", pa.string()),
            ("parent_branch", pa.int32()),
        ]
    ),
    POINTS: pa.schema(
        [
            ("run_id", _NAMES),
            ("branch", pa.int32()),
            ("attempt", _NAMES),
            ("rank", pa.int32()),
            ("key", _NAMES),
            ("step", pa.int64()),
            ("time_ms", pa.int64()),
            ("value", pa.float64()),
            ("model_id", _NAMES),
            ("dataset_name", _NAMES),
            ("dataset_digest", _NAMES),
        ]
    ),
    MODELS: pa.schema(
        [
            ("model_id", pa.string()),
            ("experiment", pa.string()),
            ("name", pa.string()),
            ("artifact_uri", pa.string()),
            ("model_type", pa.string()),
            ("source_run_id", pa.string()),
            ("status", pa.string()),
            ("lifecycle_stage", pa.string()),
            ("created_ms", pa.int64()),
            ("updated_ms", pa.int64()),
            ("params", _STRINGS),
            ("tags", _STRINGS),
        ]
    ),
}
NAME_COLUMNS = tuple(column.name for column in SCHEMAS[POINTS] if pa.types.is_dictionary(column.type))


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Of one file of an export."""

    rows: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `export.json` says. `positions`: next offset of each partition that is not in the export any more."""

    release: str
    namespace: str
    log_id: str
    exported_ms: int
    chosen: dict[str, Any]
    positions: dict[str, int]
    files: dict[str, FileFacts] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def id(self) -> str:
        """The same for the same bytes: what an import counts its events under."""
        return hashlib.sha256(
            "\n".join(self.files[name].sha256 for name in _FILES_OF[self.format]).encode()
        ).hexdigest()

    def write(self, folder: Path) -> None:
        """Into the folder, when the files are whole."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """BadExport says what is wrong with the folder or its manifest."""
        path = folder / MANIFEST
        if not folder.is_dir():
            raise BadExport(f"{folder} is no folder; name one that `runfold export` made")
        if not path.is_file():
            raise BadExport(f"{folder} is no export: it has no {MANIFEST}")
        try:
            found = json.loads(path.read_bytes())
            if (form := found["format"]) not in _FILES_OF:
                raise BadExport(f"{path}: format {form} is not known to this release, which reads up to {FORMAT}")
            files = {name: FileFacts(**facts) for name, facts in found.pop("files").items()}
            if sorted(files) != sorted(_FILES_OF[form]):
                raise BadExport(f"{path} names {', '.join(files)}, not {', '.join(_FILES_OF[form])}")
            return cls(**found, files=files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadExport(f"{path} can't be read: {type(error).__name__}: {error}") from None


def facts_of(path: Path, rows: int, progress: Callable[[int], None] = lambda size: None) -> FileFacts:
    """Return size and SHA-256 of a file; `progress` receives the bytes read."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
            size += len(data)
            progress(len(data))
    return FileFacts(rows, size, digest.hexdigest())


def open_whole(folder: Path, manifest: Manifest, name: str) -> Any:
    """The Parquet file, after a look at all of it: BadExport if it is not what was exported, byte for byte.

    None: its format has no such file.
    """
    if name not in manifest.files:
        return None
    path, wanted = folder / name, manifest.files[name]
    if not path.is_file():
        raise BadExport(f"{path} is missing; {MANIFEST} names it")
    found = facts_of(path, wanted.rows)
    if found != wanted:
        raise BadExport(
            f"{path} is not what was exported: {found.size} bytes with SHA-256 {found.sha256}, "
            f"{MANIFEST} says {wanted.size} bytes with {wanted.sha256}. It was cut, damaged or changed; export again."
        )
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise BadExport(f"{path} can't be read: {error}") from None
    lacks = _NEW_COLUMNS.get((manifest.format, name), ())
    wanted_columns = pa.schema([column for column in SCHEMAS[name] if column.name not in lacks])
    if not file.schema_arrow.equals(wanted_columns):
        raise BadExport(f"{path} has other columns than format {manifest.format}: {file.schema_arrow.names}")
    return file
