"""The sandbox in which templates run: no code, no files, and no more text than fits a prompt.

Jinja2's own sandbox keeps a template from the interpreter. It does not keep it from making a text
of gigabytes (``'a' | center(10 ** 9)``), some of it as soon as the template is read, since constant
parts are computed then. So here:

- of filters and of methods of texts only those are left that make nothing much longer, and the few
  that can (`replace`, `join`) look first;
- sums, products and ``~`` of texts are measured before they are made, and so is every value shown;
- nothing is computed when a template is read, and its loops and calls together end after a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from jinja2 import StrictUndefined, Template, Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

_LONGEST = 1_000_000  # characters of any text, and items of any list, beside what was given
_LARGEST = 10_000  # of a number that is multiplied
_ITEM = 20  # characters that an item which is no text counts for
_MOST_ROUNDS = 100_000  # of all loops and calls of a template together

_METHODS = {
    "capitalize", "casefold", "count", "endswith", "find", "get", "index", "isalnum", "isalpha",
    "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "items",
    "join", "keys", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace",
    "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith",
    "strip", "swapcase", "title", "upper", "values",
}  # fmt: skip
_FILTERS = {
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float",
    "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject",
    "rejectattr", "replace", "reverse", "round", "select", "selectattr", "sort", "string",
    "striptags", "sum", "title", "trim", "truncate", "unique", "upper", "wordcount",
}  # fmt: skip

_rounds: ContextVar[int] = ContextVar("icl_template_rounds", default=0)
_longest: ContextVar[int] = ContextVar("icl_template_longest", default=_LONGEST)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox with bounds on what a template may make."""

    intercepted_binops = frozenset({"*", "**", "%", "+", "//"})

    def __init__(self, **options: Any) -> None:
        bounds = {"autoescape": False, "optimized": False, "finalize": _shown}
        own_ways = {"undefined": StrictUndefined, "keep_trailing_newline": True}
        super().__init__(**own_ways | options | bounds)
        # What a template shows may depend on nothing but the example.
        self.globals = {"range": _range}
        own = {"join": _join, "replace": _replace, "string": _text, "sum": _sum}
        self.filters = {n: _later(own.get(n, f)) for n, f in self.filters.items() if n in _FILTERS}
        self.filters[_Bounded.ROUNDS] = _later(_counted)

    def read(self, source: str) -> Template:
        """Compile a source; raises whatever Jinja2 does for one that is no template."""
        return self.from_string(_Bounded().visit(self.parse(source)))

    def render(
        self, template: Template, values: Mapping[str, Any], *, given: int = 0, rounds: int = 0
    ) -> str:
        """Return what a template shows; raises `SecurityError` for too much of it.

        Args:
            template: what `read` has returned.
            values: what it sees.
            given: characters that it may show beside the million that any may.
            rounds: of loops and calls that it may make beside those that any may.
        """
        before, length_before = _rounds.set(-rounds), _longest.set(_LONGEST + given)
        parts: list[str] = []
        length = 0
        try:
            for part in template.generate(values):
                length += len(part)
                _bound(length)
                parts.append(part)
        finally:
            _rounds.reset(before)
            _longest.reset(length_before)
        return "".join(parts)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute one operation, where its result can be foreseen to be small."""
        formats = operator == "%" and isinstance(left, str)  # '%999999999d' makes a long text
        if operator == "**" or formats:
            raise SecurityError(f"the operator {operator} is not allowed on these values")
        if operator == "+" and _has_length(left) and _has_length(right):
            _bound(len(left) + len(right))
        if operator == "*":
            _bound(_size(left) * _size(right) if _has_length(left) or _has_length(right) else 0)
            if max(map(_number, (left, right))) > _LARGEST:
                raise SecurityError("the operator * is not allowed on these values")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of a text, list or mapping, or a global."""
        _round()
        owner, name = getattr(called, "__self__", None), getattr(called, "__name__", "")
        if isinstance(owner, str | list | tuple | dict):
            if name not in _METHODS:
                raise SecurityError(f"the method {name!r} is not allowed")
            if name == "replace":
                return _replace(owner, *args, **kwargs)
            if name == "join":
                return _join(args[0] if args else (), owner)
        return super().call(context, called, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> None:
        """Refuse ``'{:>999999999}'.format``; where Jinja2 has no such hook, `call` does."""
        if isinstance(getattr(value, "__self__", None), str) and "format" in value.__name__:
            raise SecurityError(f"the method {value.__name__!r} is not allowed")


class _Bounded(NodeTransformer):
    """Make ``~`` a sum of texts, which is measured, and count the rounds of loops."""

    ROUNDS = "rounds of loops"  # no name that a template could write

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802  (Jinja2's name)
        self.generic_visit(node)
        found, *rest = (_filtered(part, "string") for part in node.nodes)
        for part in rest:
            found = nodes.Add(found, part, lineno=node.lineno)
        return found

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filtered(node.iter, self.ROUNDS)
        return node


def _filtered(node: Any, name: str) -> nodes.Expr:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _later(made: Any) -> Any:
    """Return a filter that is never computed when a template is read."""
    if getattr(made, "jinja_pass_arg", None) is not None:
        return made

    @pass_context
    def run(context: Any, *args: Any, **kwargs: Any) -> Any:
        return made(*args, **kwargs)

    return run


def _range(*limits: int) -> range:
    found = range(*limits)
    if len(found) > _MOST_ROUNDS:
        raise SecurityError(f"a range of more than {_MOST_ROUNDS} numbers is not allowed")
    return found


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _round()
        yield item


def _round() -> None:
    _rounds.set(_rounds.get() + 1)
    if _rounds.get() > _MOST_ROUNDS:
        raise SecurityError(f"loops and calls go round more than {_MOST_ROUNDS} times")


def _has_length(value: Any) -> bool:
    return isinstance(value, str | list | tuple)


def _size(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else abs(int(value))


def _number(value: Any) -> int:
    return 0 if hasattr(value, "__len__") else abs(int(value))


def _bound(length: int) -> None:
    if length > _longest.get():
        raise SecurityError(f"more than {_longest.get()} characters or items are not allowed")


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = _text(text), _text(old), _text(new)
    times = text.count(old) if count is None or count < 0 else min(count, text.count(old))
    _bound(len(text) + times * (len(new) - len(old)))
    return str(text.replace(old, new, times))


def _join(items: Iterable[Any], between: Any = "", attribute: Any = None) -> str:
    if attribute is not None:
        raise SecurityError("`join` takes no attribute here; take `map` before it")
    parts: list[str] = []
    between, length = _text(between), 0
    for item in items:
        parts.append(_text(item))
        length += len(parts[-1]) + len(between)
        _bound(length)
    return str(between.join(parts))


def _sum(items: Iterable[Any], attribute: Any = None, start: float = 0) -> Any:
    numbers = list(items)
    if attribute is not None or not all(isinstance(x, int | float) for x in (start, *numbers)):
        raise SecurityError("`sum` takes numbers only")
    return sum(numbers, start)


def _text(value: Any) -> str:
    """Return a value as text, once it is seen to be short: lists of lists of lists need not be."""
    if not isinstance(value, str):
        weigh(value)
    return str(value)


def weigh(value: Any, length: int = 0) -> int:
    """Return about how long a value is as text, added to a length; raises `SecurityError`."""
    if isinstance(value, int) and value.bit_length() > _LARGEST:
        raise SecurityError("so large a number is not allowed")
    length += len(value) if isinstance(value, str) else _ITEM
    _bound(length)
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            length = weigh(item, length)
    return length


def _shown(value: Any) -> Any:
    """See to it that what is shown is short; undefined values are Jinja2's own matter."""
    if isinstance(value, str):  # a block's or a macro's text may be shown in another's, and again
        _bound(len(value))
    return value if isinstance(value, str | Undefined) else _text(value)
