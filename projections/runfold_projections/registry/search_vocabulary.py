"""Vocabularies of the registry's searches, with MLflow's messages: stricter than those of runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runfold_projections.core.errors import BadFilter
from runfold_projections.search.grammar import ListOperand, RawClause, parse_clauses, parse_order
from runfold_projections.search.operands import (
    check_order_count,
    check_pattern,
    list_values,
    listed,
    parse_number,
    quoted_value,
)
from runfold_projections.search.tokens import Lexeme, Token, unquoted
from runfold_projections.search.tree import Among, Clause, Compare, Key, KeyKind, Operator, Order

_TEXTUAL = ("=", "!=", "LIKE", "ILIKE")
_MEMBERSHIP = ("IN", "NOT IN")
_NUMERIC = ("=", "!=", "<", "<=", ">", ">=")
_ENTITIES = {"attribute": KeyKind.ATTRIBUTE, "tag": KeyKind.TAG, "tags": KeyKind.TAG}
_VERSION_NUMBER = "version_number"
_EXPECTED = "Expected a quoted string value or a list of quoted string values for attributes"
_TIMES = ("creation_timestamp", "last_updated_timestamp")


class _StoreError(BadFilter):
    """An error of MLflow's store, which follows its parser: parse errors of later clauses are reported first."""


@dataclass(frozen=True, slots=True)
class RegistryVocabulary:
    """The vocabulary of one search of the registry: `filter` and `order` parse expressions with it."""

    attributes: frozenset[str]
    listable: frozenset[str]
    order_key: Callable[[str], Key]

    def filter(self, text: str) -> tuple[Clause, ...]:
        """Parse a filter into clauses that must all hold. Raises BadFilter, with MLflow's message where it has one."""
        clauses: list[Clause] = []
        first: _StoreError | None = None
        for raw in parse_clauses(text, quoted=False):
            try:
                clauses.append(self._clause(raw))
            except _StoreError as error:
                first = first or error
        if first is not None:
            raise first
        return tuple(clauses)

    def order(self, texts: Sequence[str]) -> tuple[Order, ...]:
        """Parse the criteria of an order. Raises BadFilter for an invalid criterion or a repeated key."""
        check_order_count(texts)
        orders = []
        for text in texts:
            name, ascending = parse_order(text)
            orders.append(Order(self.order_key(name.text), ascending))
        if len({order.key for order in orders}) < len(orders):
            raise BadFilter(f"`order_by` contains duplicate fields: {list(texts)}")
        return tuple(orders)

    def _clause(self, raw: RawClause) -> Clause:
        if not isinstance(raw.left, Token) or raw.left.lexeme is not Lexeme.NAME:
            raise BadFilter(f"Invalid comparison clause. Expected 'Identifier' found '{raw.left.text}'")
        key = self._key(raw.left.text)
        if raw.right is None:
            raise BadFilter(f"{raw.operator} is not supported here, not for '{key.kind}' '{key.name}'")
        if isinstance(raw.right, ListOperand):
            return self._among(key, raw.operator, raw.right)
        return self._compare(key, raw.operator, raw.right)

    def _key(self, text: str) -> Key:
        entity, dot, name = text.partition(".")
        if not dot:
            entity, name = "attribute", text
        kind = _ENTITIES.get(entity)
        if kind is None:
            raise BadFilter(f"Invalid entity type '{entity}'. Valid entity types are ('attribute', 'tag', 'tags')")
        # As in MLflow, a quoted name is no attribute.
        if kind is KeyKind.ATTRIBUTE and name not in self.attributes:
            raise BadFilter(f"Invalid attribute key '{name}' specified. Valid keys are '{listed(self.attributes)}'")
        return Key(kind, unquoted(name))

    def _among(self, key: Key, operator: str, right: ListOperand) -> Among:
        if key.kind is KeyKind.TAG:
            raise BadFilter(f"Expected a quoted string value for tag (e.g. 'my-value'). Got value {right.text}")
        if key.name not in self.listable:
            raise BadFilter(
                f"Only {sorted(self.listable)} attributes support comparison with a list of quoted string values."
            )
        values = list_values(right)
        if operator not in _MEMBERSHIP:
            raise _StoreError(f"Invalid comparator for attribute: {operator}, which takes no list")
        return Among(key, values, operator == "NOT IN")

    def _compare(self, key: Key, operator: str, right: Token) -> Compare:
        if right.lexeme is Lexeme.NUMBER and key.kind is KeyKind.ATTRIBUTE and self.attributes != {"name"}:
            if key.name != _VERSION_NUMBER:
                numeric = listed((_VERSION_NUMBER, *_TIMES))
                raise BadFilter(f"Only the '{numeric}' attributes support comparison with numeric values.")
            return _numbered(key, operator, right.text)
        text = quoted_value(key, right, _EXPECTED if key.kind is KeyKind.ATTRIBUTE else "")
        if key.name == _VERSION_NUMBER and key.kind is KeyKind.ATTRIBUTE:
            return _numbered(key, operator, text, quoted=True)
        if operator not in _TEXTUAL:
            raise _StoreError(f"Invalid comparator for {'tag' if key.kind is KeyKind.TAG else 'attribute'}: {operator}")
        known = Operator(operator)
        check_pattern(known, text, _StoreError)
        return Compare(key, known, text)


def _numbered(key: Key, operator: str, text: str, *, quoted: bool = False) -> Compare:
    if operator not in _NUMERIC:
        raise _StoreError(f"Invalid comparator for attribute {key.name}: {operator}")
    if not text.strip().removeprefix("-").isdecimal():
        raise _StoreError(
            f"Invalid value for numeric attribute '{key.name}': {text!r}" if quoted else _fraction_message(key, text)
        )
    return Compare(key, Operator(operator), parse_number(text.strip()))


def _fraction_message(key: Key, text: str) -> str:
    return f"Invalid value for numeric attribute '{key.name}': {float(text)!r}"


def _model_order(text: str) -> Key:
    name = unquoted(text)
    if name == "name":
        return Key(KeyKind.ATTRIBUTE, name)
    # Both mean the time of the last update, as in MLflow's store.
    if name in ("timestamp", "last_updated_timestamp"):
        return Key(KeyKind.ATTRIBUTE, "last_updated_timestamp")
    raise BadFilter(f"Invalid order by key '{name}' specified. Valid keys are '{listed(('name', 'timestamp'))}'")


_VERSION_ORDERS = frozenset({"name", _VERSION_NUMBER, *_TIMES})


def _version_order(text: str) -> Key:
    entity, dot, name = text.partition(".")
    if not dot:
        entity, name = "attribute", text
    if entity not in _ENTITIES:
        raise BadFilter(f"Invalid entity type '{entity}'. Valid entity types are ('attribute', 'tag', 'tags')")
    name = unquoted(name)
    if name in _VERSION_ORDERS and _ENTITIES[entity] is KeyKind.ATTRIBUTE:
        return Key(KeyKind.ATTRIBUTE, name)
    raise BadFilter(f"Invalid attribute key '{name}' specified. Valid keys are '{listed(_VERSION_ORDERS)}'")


REGISTERED_MODELS = RegistryVocabulary(frozenset({"name"}), frozenset({"name"}), _model_order)
MODEL_VERSIONS = RegistryVocabulary(
    frozenset({"name", _VERSION_NUMBER, "run_id", "source_path"}), frozenset({"name", "run_id"}), _version_order
)
