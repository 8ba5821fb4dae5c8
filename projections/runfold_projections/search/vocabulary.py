"""The search languages of runs and experiments: their entities, attributes and comparators, with MLflow's messages."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runfold_projections.core.errors import BadFilter

from .grammar import ListOperand, RawClause, parse_clauses, parse_order
from .operands import check_order_count, check_pattern, list_values, listed, parse_number, quoted_value
from .tokens import Lexeme, Token, unquoted
from .tree import Among, Clause, Compare, Key, KeyKind, Operator, Order, Presence

_NUMERIC = frozenset(
    {
        Operator.EQUAL,
        Operator.UNEQUAL,
        Operator.LESS,
        Operator.AT_MOST,
        Operator.MORE,
        Operator.AT_LEAST,
    }
)
_TEXTUAL = frozenset({Operator.EQUAL, Operator.UNEQUAL, Operator.LIKE, Operator.ILIKE})


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The language of one search: what `filter` and `order` accept."""

    entities: Mapping[str, KeyKind]
    attributes: Mapping[str, str]
    orderable: Mapping[str, str]
    numeric: frozenset[str]
    """Attributes compared with numbers."""
    identifiers: frozenset[str]
    """Integer attributes that are written as quoted texts and can only be equal or not."""
    listable: frozenset[str]
    """Attributes that may be tested with IN."""
    presence: frozenset[KeyKind]
    """Kinds of keys before IS NULL and IS NOT NULL."""
    order_kinds: frozenset[KeyKind]
    fractions: bool
    """Whether a numeric attribute may be compared with a fraction such as 1.5."""
    repeated_order: bool
    """Whether an order may name a key twice; the second has no effect."""
    quoted_strays: bool
    """Whether the message about text outside of clauses quotes it."""
    unknown_entity: str
    unknown_order: str

    def filter(self, text: str) -> tuple[Clause, ...]:
        """Parse a filter into clauses that must all hold. BadFilter has the message of MLflow's SearchUtils."""
        return tuple(self._clause(raw) for raw in parse_clauses(text, quoted=self.quoted_strays))

    def order(self, texts: Sequence[str]) -> tuple[Order, ...]:
        """Parse the criteria. BadFilter for one that can't be parsed, or for a key that comes twice."""
        check_order_count(texts)
        orders = tuple(self._one_order(text) for text in texts)
        if not self.repeated_order and len({order.key for order in orders}) < len(orders):
            raise BadFilter(f"`order_by` contains duplicate fields: {list(texts)}")
        return orders

    def _one_order(self, text: str) -> Order:
        name, ascending = parse_order(text)
        key = self._key(name.text, self.orderable)
        if key.kind not in self.order_kinds:
            raise BadFilter(self.unknown_order.format(kind=key.kind.value))
        return Order(key, ascending)

    def _clause(self, raw: RawClause) -> Clause:
        if not isinstance(raw.left, Token) or raw.left.lexeme is not Lexeme.NAME:
            raise BadFilter(f"Invalid comparison clause. Expected 'Identifier' found '{raw.left.text}'")
        key = self._key(raw.left.text, self.attributes)
        if raw.right is None:
            return self._presence(key, raw.operator)
        if isinstance(raw.right, ListOperand):
            return self._among(key, raw.operator, raw.right)
        return self._compare(key, raw.operator, raw.right)

    def _key(self, text: str, attributes: Mapping[str, str]) -> Key:
        entity, dot, name = text.partition(".")
        if not dot:
            entity, name = "attribute", text
        kind = self.entities.get(entity)
        if kind is None:
            raise BadFilter(self.unknown_entity.format(entity=entity.strip("`")))
        name = unquoted(name)
        if kind is KeyKind.ATTRIBUTE:
            if name not in attributes:
                raise BadFilter(f"Invalid attribute key '{name}' specified. Valid keys are '{listed(attributes)}'")
            name = attributes[name]
        elif kind is KeyKind.DATASET and name not in _DATASET_KEYS:
            raise BadFilter(f"Invalid dataset key '{name}' specified. Valid keys are '{listed(_DATASET_KEYS)}'")
        return Key(kind, name)

    def _presence(self, key: Key, operator: str) -> Presence:
        if key.kind not in self.presence:
            supported = " and ".join(f"{word}s" for word in ("tag", "param") if KeyKind(_ENTITY[word]) in self.presence)
            raise BadFilter(
                f"IS NULL / IS NOT NULL is only supported for {supported}, not for '{key.kind}' '{key.name}'"
            )
        return Presence(key, operator == "IS NOT NULL")

    def _among(self, key: Key, operator: str, right: ListOperand) -> Among:
        if key.kind is KeyKind.METRIC or (key.kind is KeyKind.ATTRIBUTE and key.name in self.numeric):
            raise _not_a_number(key, right)
        if key.kind in (KeyKind.PARAM, KeyKind.TAG):
            raise BadFilter(f"Expected a quoted string value for {key.kind} (e.g. 'my-value'). Got value {right.text}")
        if key.kind is KeyKind.ATTRIBUTE and key.name not in self.listable:
            raise BadFilter(
                f"Only {sorted(self.listable)} attributes support comparison with a list of quoted string values."
            )
        values = list_values(right)
        if operator not in ("IN", "NOT IN"):
            raise _bad_comparator(operator, ("IN", "NOT IN"))
        if self._is_identifier(key):
            return Among(key, tuple(_identifier(value) for value in values), operator == "NOT IN")
        return Among(key, values, operator == "NOT IN")

    def _is_identifier(self, key: Key) -> bool:
        # A tag may have any name.
        return key.kind is KeyKind.ATTRIBUTE and key.name in self.identifiers

    def _compare(self, key: Key, operator: str, right: Token) -> Compare:
        if key.kind is KeyKind.METRIC or (key.kind is KeyKind.ATTRIBUTE and key.name in self.numeric):
            if right.lexeme is not Lexeme.NUMBER:
                raise _not_a_number(key, right)
            known = _operator(operator, _NUMERIC)
            number = float(right.text) if key.kind is KeyKind.METRIC else parse_number(right.text)
            if isinstance(number, float) and key.kind is KeyKind.ATTRIBUTE and not self.fractions:
                raise BadFilter(f"Invalid value for numeric attribute '{key.name}': '{number}'")
            return Compare(key, known, number)
        text = quoted_value(key, right)
        if self._is_identifier(key):
            known = _operator(operator, frozenset({Operator.EQUAL, Operator.UNEQUAL}))
            return Compare(key, known, _identifier(text))
        known = _operator(operator, _TEXTUAL)
        check_pattern(known, text)
        return Compare(key, known, text)


def _operator(text: str, known: frozenset[Operator]) -> Operator:
    if text not in known:
        raise _bad_comparator(text, known)
    return Operator(text)


def _identifier(text: str) -> int:
    number = parse_number(text) if text.removeprefix("-").isdecimal() else None
    if not isinstance(number, int):
        raise BadFilter(f"Invalid experiment ID '{text}'. Experiment ID must be a valid integer.")
    return number


def _not_a_number(key: Key, operand: Token | ListOperand) -> BadFilter:
    what = "metric" if key.kind is KeyKind.METRIC else f"numeric attribute: {key.name}"
    return BadFilter(f"Expected numeric value type for {what}. Found {operand.text}")


def _bad_comparator(text: str, known: Iterable[str]) -> BadFilter:
    return BadFilter(f"Invalid comparator '{text}' not one of '{listed(known)}'")


_ENTITY: dict[str, KeyKind] = {
    **dict.fromkeys(("metric", "metrics"), KeyKind.METRIC),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), KeyKind.PARAM),
    **dict.fromkeys(("tag", "tags"), KeyKind.TAG),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), KeyKind.ATTRIBUTE),
    **dict.fromkeys(("dataset", "datasets"), KeyKind.DATASET),
}
_DATASET_KEYS = frozenset({"name", "digest", "context"})
_RUN_ATTRIBUTES = {
    name: name for name in ("run_id", "run_name", "status", "artifact_uri", "user_id", "start_time", "end_time")
}
_CREATED = dict.fromkeys(("created", "Created"), "start_time")

RUNS = Vocabulary(
    # MLflow also takes an entity in backticks.
    entities=_ENTITY | {f"`{word}`": kind for word, kind in _ENTITY.items()},
    attributes=_RUN_ATTRIBUTES | _CREATED | dict.fromkeys(("run name", "Run name", "Run Name"), "run_name"),
    orderable=_RUN_ATTRIBUTES | _CREATED,
    numeric=frozenset({"start_time", "end_time"}),
    identifiers=frozenset(),
    listable=frozenset({"run_id"}),
    presence=frozenset({KeyKind.TAG, KeyKind.PARAM}),
    order_kinds=frozenset({KeyKind.METRIC, KeyKind.PARAM, KeyKind.TAG, KeyKind.ATTRIBUTE}),
    fractions=True,
    repeated_order=False,
    quoted_strays=True,
    unknown_entity="Invalid entity type '{entity}'. Valid values are "
    "['metric', 'parameter', 'tag', 'attribute', 'dataset']",
    unknown_order="Invalid identifier type '{kind}'",
)

_EXPERIMENT_ATTRIBUTES = {name: name for name in ("name", "experiment_id", "creation_time", "last_update_time")}

EXPERIMENTS = Vocabulary(
    entities={"attribute": KeyKind.ATTRIBUTE, "tag": KeyKind.TAG, "tags": KeyKind.TAG},
    attributes=_EXPERIMENT_ATTRIBUTES,
    orderable=_EXPERIMENT_ATTRIBUTES,
    numeric=frozenset({"creation_time", "last_update_time"}),
    identifiers=frozenset({"experiment_id"}),
    listable=frozenset({"experiment_id"}),
    presence=frozenset({KeyKind.TAG}),
    order_kinds=frozenset({KeyKind.ATTRIBUTE}),
    fractions=False,
    repeated_order=True,
    quoted_strays=False,
    unknown_entity="Invalid entity type '{entity}'. Valid entity types are ('attribute', 'tag', 'tags')",
    unknown_order="Invalid order_by entity: {kind}",
)
