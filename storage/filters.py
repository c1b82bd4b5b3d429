"""What a user says in `where=`, as an Arrow expression over the columns of a table.

Three ways to say it: an Arrow expression, a mapping column -> value (or list of values), or a condition as SQL writes
it. The grammar of SQL is sqlglot's; what of it has a meaning here is translated node by node, and all else is refused.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .errors import FilterError, sentence
from .records import TABLES, id_of_hex, schema_of

Where: TypeAlias = str | Mapping[str, Any] | pc.Expression | None
"""A filter on columns: SQL text such as `"area > 500 AND split = 'train'"`, an Arrow expression, or column to value (or
list of values), all of which must hold."""


def as_expression(where: Where, schema: pa.Schema) -> pc.Expression | None:
    """A filter as an Arrow expression over a table.

    Raises:
        FilterError: a column that the table does not have, values of another type than the column's, or a text that is
            no condition.
    """
    if where is None or isinstance(where, pc.Expression):
        return where
    if isinstance(where, str):
        return _from_sql(where, schema)
    if not isinstance(where, Mapping):
        expected = "an Arrow expression or a mapping column -> value or a condition as SQL writes it"
        raise FilterError(sentence("where", expected=expected, found=repr(where)))
    return all_of([_is_one_of(check_column(column, schema), value) for column, value in where.items()])


def parse_where(texts: Sequence[str]) -> pc.Expression | None:
    """The texts of a command line as one filter of segments, all of which must hold.

    Each is a condition as SQL writes it, or `column=value` without spaces around the `=`, whose value is taken to the
    letter; several such values of one column are alternatives. Segment ids are hexadecimal, as results print them.

    Raises:
        FilterError: neither of the two, no such column, or a value that is none of the column's type.
    """
    schema = schema_of(TABLES["segments"])
    plain: dict[str, list[Any]] = {}
    conditions = []
    for text in texts:
        if match := _PLAIN.fullmatch(text):
            plain.setdefault(match[1], []).append(_parsed(match[1], match[2], schema))
        else:
            conditions.append(as_expression(text, schema))
    return all_of([as_expression(plain or None, schema), *conditions])


_PLAIN = re.compile(
    r"""(\w+)=(?![=\s'"])(?!.*\s(?:and|or)\s.*(?:[=<>]|\s(?:in|is|like|ilike|between)\s))(.*)""", re.I | re.S
)


def columns_of(expression: pc.Expression, schema: pa.Schema) -> list[str]:
    """The columns that an expression reads, or some more: Arrow tells them in its text alone."""
    text = str(expression)
    if "FieldPath(" in text:  # by number
        return list(schema.names)
    return [name for name in schema.names if re.search(rf"\b{re.escape(name)}\b", text)]


def expression_key(expression: pc.Expression) -> bytes:
    """Equal for equal expressions only; their text is not: Arrow cuts long lists short in it."""
    try:
        return bytes(expression.__reduce__()[1][0])
    except (pa.ArrowException, UnicodeError) as error:
        raise FilterError(sentence("where", f"cannot be applied to segments ({error})", fix="name columns")) from error


def evaluate(table: pa.Table, expression: pc.Expression) -> npt.NDArray[np.bool_]:
    """Which rows of a table an expression keeps, `(N,)` bool; a row of which it cannot tell is not kept.

    Raises:
        FilterError: it names no column of the table, compares unlike types, or is neither true nor false.
    """
    try:
        kept = _applied(table, expression)
    except pa.ArrowException as error:
        raise unusable(error, "segments", schema_of(TABLES["segments"])) from error
    if not pa.types.is_boolean(kept.type):
        raise FilterError(sentence("where", expected="an expression that is true or false", found=str(expression)))
    keep: npt.NDArray[np.bool_] = kept.fill_null(False).to_numpy().astype(bool)
    return keep


def _applied(table: pa.Table, expression: pc.Expression) -> pa.ChunkedArray:
    import pyarrow.dataset as ds

    return ds.dataset(table).to_table(columns={"keep": expression})["keep"]


def unusable(error: pa.ArrowException, name: str, schema: pa.Schema) -> FilterError:
    """What to raise where Arrow cannot apply a filter to a table of that name."""
    if (missing := re.match(r"No match for FieldRef\.Name\((\w+)\)", str(error))) and missing[1] not in schema.names:
        expected = f"one of {', '.join(schema.names)}"
        return FilterError(sentence(f"column {missing[1]!r}", expected=expected, found="no such column"))
    return FilterError(sentence("where", f"cannot be applied to {name} ({error})"))


def check_column(column: str, schema: pa.Schema, fix: str = "") -> pa.Field:
    """The field of a column.

    Raises:
        FilterError: the table has no such column.
    """
    if column not in schema.names:
        expected = f"one of {', '.join(schema.names)}"
        raise FilterError(sentence(f"column {column!r}", expected=expected, found="no such column", fix=fix))
    return schema.field(column)


def all_of(parts: Iterable[pc.Expression | None]) -> pc.Expression | None:
    """Where all hold; those that are None say nothing."""
    said = [part for part in parts if part is not None]
    return reduce(operator.and_, said) if said else None


def _is_one_of(field: pa.Field, value: Any) -> pc.Expression:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    values = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
    try:
        if field.name == "segment_id":  # as results print it
            values = [id_of_hex(each) if isinstance(each, str) else each for each in values]
        return pc.field(field.name).isin(pa.array(list(values), kind))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError) as error:
        said = sentence(f"where {field.name!r}", expected=f"values of type {kind}", found=repr(value))
        raise FilterError(said) from error


def _parsed(column: str, value: str, schema: pa.Schema) -> Any:
    kind = check_column(column, schema).type
    try:
        if column == "segment_id":
            return id_of_hex(value)
        return value if pa.types.is_dictionary(kind) else pa.scalar(value).cast(kind).as_py()
    except (pa.ArrowInvalid, ValueError) as error:
        said = sentence(f"where {column!r}", expected=f"a value of type {kind}", found=repr(value))
        raise FilterError(said) from error


@lru_cache(maxsize=256)
def _from_sql(text: str, schema: pa.Schema) -> pc.Expression:
    try:
        expression = _Translation(text, schema).condition(_tree(text, schema))
    except UnicodeError:
        raise FilterError(sentence(f"where {text!r}", "is no text: it holds a lone surrogate")) from None
    except RecursionError:
        raise FilterError(sentence("where", "is nested too deeply", fix="use IN for long lists")) from None
    try:
        _applied(schema.empty_table(), expression)
    except pa.ArrowException as error:
        kinds = {name: schema.field(name).type for name in columns_of(expression, schema)}
        said = " and ".join(f"{'a text' if _is_text(kind) else 'a number'} for {name}" for name, kind in kinds.items())
        fix = "texts stand in single quotes, numbers do not"
        raise FilterError(sentence(f"where {text!r}", "compares unlike types", expected=said, fix=fix)) from error
    return expression


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind))


def _tree(text: str, schema: pa.Schema) -> Any:
    """The syntax tree of a condition. Names of columns are no keywords: `group`, `left` and `right` need no quotes."""
    from sqlglot import Tokenizer, TokenType, exp
    from sqlglot.errors import ParseError, TokenError
    from sqlglot.parser import Parser

    try:
        tokens = Tokenizer().tokenize(text)
        for token in tokens:
            if token.text in schema.names and token.token_type is not TokenType.STRING:
                token.token_type = TokenType.IDENTIFIER
        trees = Parser().parse_into(exp.Condition, tokens, text)
    except ParseError as error:
        first = (error.errors or [{}])[0]
        at = f"near {first['highlight']!r}" if first.get("highlight") else "as a condition"
        raise FilterError(sentence(f"where {text!r}", f"cannot be understood {at}", fix=_EXAMPLE)) from error
    except TokenError as error:
        raise FilterError(sentence(f"where {text!r}", "has an open quote or bracket", fix=_EXAMPLE)) from error
    if len(trees) != 1 or trees[0] is None:
        found = f"{len(trees)}" if text.strip() else "none"
        raise FilterError(sentence(f"where {text!r}", expected="one condition", found=found, fix=_EXAMPLE))
    return trees[0]


_EXAMPLE = "write it like \"class_name = 'car' AND area > 500\""


class _Translation:
    """One text on its way from syntax tree to Arrow expression. A comparison with NULL is neither true nor false."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        self.text = text
        self.schema = schema

    def condition(self, node: Any) -> pc.Expression:
        """A node that is true or false."""
        kind = type(node).__name__
        if kind in _COMPARISONS:
            self._has_only(node, "this", "expression")
            return _COMPARISONS[kind](*self._pair(node.this, node.expression))
        translate = self._conditions().get(kind)
        if translate is None:
            found = repr(self._said(node))
            if kind in ("Column", "Literal") or kind in _ARITHMETIC:
                expected = "column=value or a condition"
                raise FilterError(sentence(f"where {self.text!r}", expected=expected, found=found, fix=_EXAMPLE))
            raise self._refused(node)
        return translate(node)

    def _conditions(self) -> Mapping[str, Callable[[Any], pc.Expression]]:
        return {
            "And": lambda node: self.condition(node.this) & self.condition(node.expression),
            "Or": lambda node: self.condition(node.this) | self.condition(node.expression),
            "Not": lambda node: ~self.condition(node.this),
            "Paren": lambda node: self.condition(node.this),
            "Between": self._between,
            "In": self._in,
            "Is": self._is,
            "Like": self._like,
            "ILike": self._like,
        }

    def _between(self, node: Any) -> pc.Expression:
        self._has_only(node, "this", "low", "high")
        value, low = self._pair(node.this, node.args["low"])
        other, high = self._pair(node.this, node.args["high"])
        return (value >= low) & (other <= high)

    def _in(self, node: Any) -> pc.Expression:
        self._has_only(node, "this", "expressions")
        if not node.expressions:
            raise self._refused(node)
        kind = pa.uint64() if _is_segment_id(node.this) else None
        constants = [self._constant(entry, _is_segment_id(node.this)) for entry in node.expressions]
        try:
            among = pa.array(constants, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise FilterError(
                sentence(f"where {self.text!r}", expected="values of one type in a list", found=repr(constants))
            ) from error
        value = self.value(node.this)
        return pc.if_else(value.is_null(), pa.scalar(None, pa.bool_()), value.isin(among))

    def _is(self, node: Any) -> pc.Expression:
        self._has_only(node, "this", "expression")
        if type(node.expression).__name__ != "Null":
            raise self._refused(node)
        return self.value(node.this).is_null()

    def _like(self, node: Any) -> pc.Expression:
        self._has_only(node, "this", "expression", "negate")
        pattern = self._constant(node.expression)
        if not isinstance(pattern, str):
            raise self._refused(node)
        alike = pc.match_like(self.value(node.this), pattern, ignore_case=type(node).__name__ == "ILike")
        return ~alike if node.args.get("negate") else alike

    def value(self, node: Any) -> pc.Expression:
        """A node that is a number or a text. Whole numbers are reckoned with in 64 bits; `/` does not round."""
        kind = type(node).__name__
        if kind == "Column":
            return self._column(node)
        if kind == "Paren":
            return self.value(node.this)
        if kind == "Neg" and type(node.this).__name__ != "Literal":
            return pc.negate(self._number(node.this))
        if kind in _ARITHMETIC:
            return _ARITHMETIC[kind](self._number(node.this), self._number(node.expression))
        return pc.scalar(self._constant(node))

    def _pair(self, left: Any, right: Any) -> tuple[pc.Expression, pc.Expression]:
        """Both sides of a comparison; a segment id is compared with the number that a hexadecimal text stands for."""
        ids = _is_segment_id(left) or _is_segment_id(right)
        sides = []
        for node in (left, right):
            if ids and type(node).__name__ in ("Literal", "Neg"):
                sides.append(pc.scalar(pa.scalar(self._constant(node, True), pa.uint64())))
            else:
                sides.append(self.value(node))
        return sides[0], sides[1]

    def _number(self, node: Any) -> pc.Expression:
        """A value as 64-bit numbers, which no product of two columns overflows."""
        if type(node).__name__ != "Column":
            return self.value(node)
        self._has_only(node, "this")
        field = check_column(node.name, self.schema)
        if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)):
            raise FilterError(
                sentence(f"where {self.text!r}", expected="numbers to reckon with", found=f"column {field.name}")
            )
        return pc.field(field.name).cast(pa.int64() if pa.types.is_integer(field.type) else pa.float64())

    def _column(self, node: Any) -> pc.Expression:
        self._has_only(node, "this")
        field = check_column(node.name, self.schema, fix="texts stand in single quotes" if node.this.quoted else "")
        text = pa.types.is_dictionary(field.type)
        return pc.field(field.name).cast(field.type.value_type) if text else pc.field(field.name)

    def _constant(self, node: Any, segment_id: bool = False) -> Any:
        """A number or a text as it stands in the condition."""
        kind = type(node).__name__
        if kind == "Neg" and not segment_id:
            number = self._constant(node.this)
            return -number if not isinstance(number, str) else self._refuse(node)
        if kind != "Literal":
            self._refuse(node)
        try:
            if segment_id:
                return id_of_hex(node.name) if node.is_string else pa.scalar(int(node.name), pa.uint64()).as_py()
            if node.is_string:
                return node.name
            whole = node.name.isdecimal() and int(node.name) < 1 << 63
            return int(node.name) if whole else float(node.name)
        except (ValueError, OverflowError):
            found = repr(node.name)
            expected = "a segment id of 16 hexadecimal digits" if segment_id else "a number"
            raise FilterError(sentence(f"where {self.text!r}", expected=expected, found=found)) from None

    def _has_only(self, node: Any, *known: str) -> None:
        """Refuses what a node says beyond what is translated: `ESCAPE`, a table before a column, a query in a list."""
        if any(value for name, value in node.args.items() if name not in known):
            self._refuse(node)

    def _refuse(self, node: Any) -> Any:
        raise self._refused(node)

    def _refused(self, node: Any) -> FilterError:
        known = "columns, numbers and texts with = <> < <= > >= AND OR NOT IN BETWEEN LIKE ILIKE IS NULL + - * /"
        if type(node).__name__ == "Null":
            return FilterError(sentence(f"where {self.text!r}", "compares with NULL", fix="write IS NULL"))
        return FilterError(sentence(f"where {self.text!r}", expected=known, found=repr(self._said(node))))

    def _said(self, node: Any) -> str:
        said = " ".join(node.sql().split())
        return said if len(said) <= 60 else said[:59] + "…"


_COMPARISONS: Mapping[str, Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    "EQ": operator.eq,
    "NEQ": operator.ne,
    "LT": operator.lt,
    "LTE": operator.le,
    "GT": operator.gt,
    "GTE": operator.ge,
}
_ARITHMETIC: Mapping[str, Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": lambda a, b: pc.divide(a.cast(pa.float64()), b.cast(pa.float64())),
}


def _is_segment_id(node: Any) -> bool:
    return type(node).__name__ == "Column" and node.name == "segment_id"
