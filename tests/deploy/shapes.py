"""What an expression of PromQL gives: its labels, and the values that each may have. Prometheus answers a name that it
has never heard of with nothing, and a misspelt label too; here both are errors."""

import re
from collections.abc import Mapping

import promql_parser as promql

__all__ = ["Shape", "Unknown", "shape_of"]

Shape = Mapping[str, frozenset[str]]
"""Label -> the values that series have there."""


class Unknown(Exception):
    """The expression names something that there is not, or matches what never matches."""


def shape_of(expression: str, series: Mapping[str, Shape]) -> Shape:
    """The shape of what the expression gives, where there are these series. Raises Unknown."""
    shape = _of(promql.parse(expression), series)
    return {} if shape is None else shape


def _of(node: promql.Expr, series: Mapping[str, Shape]) -> Shape | None:
    """None for scalars."""
    match node:
        case promql.NumberLiteral() | promql.StringLiteral():
            return None
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return _of(node.expr, series)
        case promql.MatrixSelector():
            return _selected(node.vector_selector, series)
        case promql.VectorSelector():
            return _selected(node, series)
        case promql.Call():
            return _called(node, series)
        case promql.AggregateExpr():
            return _aggregated(node, series)
        case promql.BinaryExpr():
            return _combined(node, series)
    raise Unknown(f"{type(node).__name__} is not understood here: {node}")


def _selected(node: promql.VectorSelector, series: Mapping[str, Shape]) -> Shape:
    if node.name is None or node.name not in series:
        raise Unknown(f"no metric is called {node.name}")
    shape = dict(series[node.name])
    for matcher in node.matchers.matchers:
        if matcher.name not in shape:
            raise Unknown(f"{node.name} has no label {matcher.name}")
        exact = matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual)
        wanted = re.compile(re.escape(matcher.value) if exact else matcher.value)
        positive = matcher.op in (promql.MatchOp.Equal, promql.MatchOp.Re)
        found = {value for value in shape[matcher.name] if (wanted.fullmatch(value) is not None) == positive}
        if not found:
            raise Unknown(f"{node.name} has nothing with {matcher}, only {sorted(shape[matcher.name])}")
        shape[matcher.name] = frozenset(found)
    return shape


def _called(node: promql.Call, series: Mapping[str, Shape]) -> Shape | None:
    shapes = [shape for argument in node.args if (shape := _of(argument, series)) is not None]
    if node.func.name in ("absent", "vector") or not shapes:
        return {}
    (shape,) = shapes
    if node.func.name == "histogram_quantile":
        _require(shape, ["le"], node)
        return {label: values for label, values in shape.items() if label != "le"}
    return shape


def _aggregated(node: promql.AggregateExpr, series: Mapping[str, Shape]) -> Shape:
    shape = _of(node.expr, series)
    if shape is None:
        raise Unknown(f"a number cannot be aggregated: {node}")
    if node.modifier is None:
        return {}
    _require(shape, node.modifier.labels, node)
    kept = node.modifier.type == promql.AggModifierType.By
    return {label: values for label, values in shape.items() if (label in node.modifier.labels) == kept}


def _combined(node: promql.BinaryExpr, series: Mapping[str, Shape]) -> Shape | None:
    left, right = _of(node.lhs, series), _of(node.rhs, series)
    if left is None or right is None:
        return right if left is None else left
    if str(node.op) == "or":
        return {label: left.get(label, frozenset()) | right.get(label, frozenset()) for label in {**left, **right}}
    matching = node.modifier.matching if node.modifier else None
    if matching is None:
        compared = set(left) ^ set(right)
    elif matching.type == promql.LabelModifierType.Include:
        _require(left, matching.labels, node)
        _require(right, matching.labels, node)
        compared = set()
    else:
        compared = (set(left) ^ set(right)) - set(matching.labels)
    if compared:
        raise Unknown(f"only one side has {sorted(compared)}, so nothing matches: {node}")
    grouped = node.modifier is not None and node.modifier.card == promql.VectorMatchCardinality.ManyToOne
    if matching is None or grouped or str(node.op) in ("and", "unless"):
        return left
    included = matching.type == promql.LabelModifierType.Include
    return {label: values for label, values in left.items() if (label in matching.labels) == included}


def _require(shape: Shape, labels: list[str], node: promql.Expr) -> None:
    lacking = sorted(set(labels) - set(shape))
    if lacking:
        raise Unknown(f"there is no label {', '.join(lacking)} in {node}")
