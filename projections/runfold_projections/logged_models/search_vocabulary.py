"""Vocabulary of searches of logged models: as in MLflow 3.17.2's `search_logged_model_utils`, another language than
other searches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runfold_projections.core.errors import BadFilter
from runfold_projections.search.grammar import ListOperand, RawClause, read_clauses
from runfold_projections.search.operands import check_pattern, parse_number
from runfold_projections.search.tokens import Lexeme, Token, unquoted
from runfold_projections.search.tree import Among, Clause, Compare, Key, KeyKind, Operator, Order

ENTITIES: Mapping[str, KeyKind] = {
    "attributes": KeyKind.ATTRIBUTE,
    "metrics": KeyKind.METRIC,
    "params": KeyKind.PARAM,
    "tags": KeyKind.TAG,
}
_NAMES = {kind: name for name, kind in ENTITIES.items()}
CREATED, UPDATED = "creation_timestamp_ms", "last_updated_timestamp_ms"
_ALIASES = {"creation_time": CREATED, "creation_timestamp": CREATED, "last_updated_timestamp": UPDATED}
ATTRIBUTES = (
    "model_id",
    "experiment_id",
    "name",
    "artifact_location",
    CREATED,
    UPDATED,
    "status",
    "lifecycle_stage",
    "model_type",
    "source_run_id",
)
_NUMERIC = ("<", "<=", ">", ">=", "=", "!=")
_TEXTUAL = ("=", "!=", "LIKE", "ILIKE", "IN", "NOT IN")


@dataclass(frozen=True, slots=True)
class MeasuredOn:
    """A dataset that metrics were measured on; without a digest, any of the name."""

    name: str
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class ModelOrder:
    """One criterion of an order: for a metric, its latest value, on the dataset if one is named."""

    order: Order
    name: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedModelVocabulary:
    """The language of searches of logged models: what `filter` and `order` accept."""

    entities: Mapping[str, KeyKind]
    attributes: Sequence[str]
    aliases: Mapping[str, str]
    numeric: frozenset[str]
    """Attributes compared with numbers."""

    def filter(self, text: str) -> tuple[Clause, ...]:
        """Parse a filter into clauses that must all hold; none for an empty text.

        Raises BadFilter, with MLflow's message where it has one.
        """
        clauses, strays = read_clauses(text)
        if strays:
            raise _no_comparisons(text)
        return tuple(self._clause(text, raw) for raw in clauses)

    def order(self, field: str, ascending: bool, name: str | None = None, digest: str | None = None) -> ModelOrder:
        """Parse a criterion. Raises BadFilter for a field that can't order models."""
        entity, dot, key = field.partition(".")
        if not dot:
            known = self.aliases.get(field, field)
            if known not in self.attributes:
                raise BadFilter(f"Invalid order by field name: {field}")
            return ModelOrder(Order(Key(KeyKind.ATTRIBUTE, known), ascending))
        if entity != "metrics":
            raise BadFilter(f"Invalid order by field name: {field}. Only metrics are supported.")
        return ModelOrder(Order(Key(KeyKind.METRIC, unquoted(key)), ascending), name or None, digest or None)

    def _clause(self, text: str, raw: RawClause) -> Clause:
        if not isinstance(raw.left, Token) or raw.left.lexeme is not Lexeme.NAME or raw.right is None:
            raise _no_comparisons(text)
        key = self._key(raw.left.text)
        numeric = key.kind is KeyKind.METRIC or key.name in self.numeric
        known = _NUMERIC if numeric else _TEXTUAL
        if raw.operator not in known:
            raise BadFilter(
                f"Invalid comparison operator for {_NAMES[key.kind]}.{key.name}: {raw.operator!r}. Expected one of "
                f"{known}."
            )
        if numeric:
            return _number_clause(key, raw.operator, raw.right)
        if isinstance(raw.right, ListOperand):
            if raw.operator not in ("IN", "NOT IN"):
                raise BadFilter(
                    f"A list can only stand after IN or NOT IN, not after {raw.operator!r}: {raw.right.text}"
                )
            if not raw.right.items:
                raise BadFilter(f"The list after {raw.operator} is empty")
            return Among(key, tuple(_text(item) for item in raw.right.items), raw.operator == "NOT IN")
        value = _text(raw.right)
        operator = Operator(raw.operator)
        check_pattern(operator, value)
        return Compare(key, operator, value)

    def _key(self, text: str) -> Key:
        entity, dot, name = text.partition(".")
        if not dot:
            entity, name = "attributes", text
        kind = self.entities.get(entity)
        if kind is None:
            raise BadFilter(f"Invalid entity type: {entity!r}. Expected one of {list(self.entities)}.")
        name = unquoted(name)
        if kind is KeyKind.ATTRIBUTE:
            name = self.aliases.get(name, name)
            if name not in self.attributes:
                raise BadFilter(f"Invalid attribute key '{name}' specified. Valid keys are {sorted(self.attributes)}")
        return Key(kind, name)


def _number_clause(key: Key, operator: str, right: Token | ListOperand) -> Compare:
    if not isinstance(right, Token) or right.lexeme is not Lexeme.NUMBER:
        raise BadFilter(f"Expected a number to compare {_NAMES[key.kind]}.{key.name} with. Found {right.text}")
    value = float(right.text) if key.kind is KeyKind.METRIC else parse_number(right.text)
    return Compare(key, Operator(operator), value)


def _text(token: Token) -> str:
    # MLflow accepts bare words and numbers as texts, too: params.lr = 0.01 is its own example.
    return unquoted(token.text) if token.lexeme is not Lexeme.NUMBER else token.text


def _no_comparisons(text: str) -> BadFilter:
    return BadFilter(
        f"Invalid filter string: {text!r}. Expected a list of comparisons "
        "separated by 'AND' (e.g. 'metrics.loss > 0.1 AND params.lr = 0.01')."
    )


LOGGED_MODELS = LoggedModelVocabulary(ENTITIES, ATTRIBUTES, _ALIASES, frozenset({CREATED, UPDATED}))
