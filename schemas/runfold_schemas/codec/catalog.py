"""The released schemas: ids, versions and topics, read from the package's `avsc/` folder."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import fastavro

from runfold_schemas.errors import BadCatalog, BadEvent, UndeclaredSchema
from runfold_schemas.positions.topics import Topic

FEATURE_LEVEL = 4
"""Highest feature level that this release can write."""

_FOLDER = Path(__file__).parents[1] / "avsc"


@dataclass(frozen=True)
class Released:
    """One released version of one schema. `text` is the file as released; its SHA-256 never changes."""

    schema_id: int
    subject: str
    version: int
    level: int
    topics: frozenset[Topic]
    text: str

    @cached_property
    def parsed(self) -> Any:
        """The schema in fastavro's parsed form."""
        return fastavro.parse_schema(json.loads(self.text), named_schemas={})


class Catalog:
    """All schemas that this program can read, by id and by subject."""

    def __init__(self, released: Iterable[Released]) -> None:
        self.by_id: dict[int, Released] = {}
        self._by_subject: dict[str, list[Released]] = {}
        for schema in sorted(released, key=lambda s: (s.subject, s.version)):
            if schema.schema_id in self.by_id:
                raise BadCatalog(f"schema id {schema.schema_id} is released twice")
            versions = self._by_subject.setdefault(schema.subject, [])
            if schema.version != len(versions) + 1:
                raise BadCatalog(f"{schema.subject}: version {schema.version} follows {len(versions)}")
            versions.append(schema)
            self.by_id[schema.schema_id] = schema

    @classmethod
    def load(cls, folder: Path = _FOLDER) -> Self:
        """Read `released.json` and the files it lists; BadCatalog if one is missing or changed since its release."""
        released = []
        for entry in json.loads((folder / "released.json").read_text(encoding="utf-8")):
            path = folder / entry["subject"] / f"v{entry['version']}.avsc"
            if not path.exists():
                raise BadCatalog(f"{entry['subject']} v{entry['version']} is released, but its file is not there")
            text = path.read_text(encoding="utf-8")
            if hashlib.sha256(text.encode()).hexdigest() != entry["sha256"]:
                raise BadCatalog(
                    f"{entry['subject']} v{entry['version']} was changed after its release; add a new version instead"
                )
            topics = frozenset(Topic(name) for name in entry["topics"])
            released.append(Released(entry["id"], entry["subject"], entry["version"], entry["level"], topics, text))
        return cls(released)

    def get(self, schema_id: int) -> Released:
        """The schema of an id; UndeclaredSchema if this release does not know it."""
        try:
            return self.by_id[schema_id]
        except KeyError:
            raise UndeclaredSchema(schema_id) from None

    def newest(self, subject: str) -> Released:
        """The newest version that this program reads; older ones are resolved to it."""
        return self._by_subject[subject][-1]

    def to_write(self, subject: str, level: int = FEATURE_LEVEL) -> Released:
        """The newest version that the feature level allows a writer to use."""
        for schema in reversed(self._by_subject.get(subject, [])):
            if schema.level <= level:
                return schema
        raise BadEvent(f"{subject} can't be written at feature level {level}; run `runfold upgrade` first")

    def up_to(self, level: int) -> list[Released]:
        """All schemas that a feature level includes, by id."""
        return [self.by_id[i] for i in sorted(self.by_id) if self.by_id[i].level <= level]

    @property
    def subjects(self) -> dict[str, list[Released]]:
        """All versions of each subject, oldest first."""
        return self._by_subject


@lru_cache(maxsize=1)
def released_catalog() -> Catalog:
    """The catalog that ships with this release."""
    return Catalog.load()
