"""Refuse text in a `.pt2` that torch would run as code.

torch.export's reader hands sizes to `sympy.sympify`, which evaluates them, imports the modules that tree specs name,
and compiles Python source with names of inputs and weights. Each place has a list of what is allowed; everything else
is refused. Metadata (stack traces) and guards, which are source too, are dropped.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from ..errors import CaptureError

DROPPED: dict[str, Any] = {"metadata": {}, "guards_code": []}  # stack traces; source that torch would compile
NOT_IN_NAMES = re.compile(r"""["'\\()\[\]{}=@;`\x00-\x1f\x7f]""")  # names become source: no call, no assignment
NOT_IN_TEXT = re.compile(r"""["'\\\x00-\x1f\x7f]""")  # an equation such as bij,bjk->bik
HIGHER_ORDER = "wrap_with_autocast|wrap_with_set_grad_enabled|cond|map_impl|scan|while_loop|associative_scan"
TARGET = re.compile(
    rf"torch\.ops\.(?!higher_order\.)\w+\.\w+\.\w+|torch\.ops\.higher_order\.({HIGHER_ORDER})"
    r"|_operator\.(?!attrgetter|methodcaller|call\b)\w+|math\.\w+|torch\.(_sym_\w+|sym_\w+)"
)
SYMBOL = re.compile(r"[a-zA-Z]{1,4}\d+|int_oo|oo|true|false|True|False|nan")
FUNCTIONS = frozenset(
    "Symbol Integer Rational Float Half One Zero NegativeOne Infinity NegativeInfinity IntInfinity NegativeIntInfinity"
    " Add Mul Pow Max Min Abs Mod floor ceiling Piecewise ExprCondPair Tuple And Or Not Xor BooleanTrue BooleanFalse"
    " Eq Ne Lt Le Gt Ge Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan"
    " FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural"
    " FloatPow FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt"
    " RoundDecimal ToFloat Identity OpaqueUnaryFn_sqrt".split()
)
ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.operator, ast.unaryop, ast.cmpop, ast.boolop,
    ast.Call, ast.keyword, ast.Name, ast.Constant, ast.Load,
)  # fmt: skip


def plain_graph(text: str, file: str) -> str:
    """Return the serialised graph without metadata. Raises CaptureError for text that could run as code."""
    return json.dumps(_plain(json.loads(text), file, ""))


def _plain(value: Any, file: str, place: str) -> Any:
    """Return the checked value under the key `place`, without metadata."""
    if isinstance(value, dict):
        for key in value:
            _require_without(NOT_IN_NAMES, key, file)
        return {key: DROPPED[key] if key in DROPPED else _plain(one, file, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, file, place) for one in value]
    if isinstance(value, str):
        _require_plain(value, file, place)
    return value


def _require_plain(text: str, file: str, place: str) -> None:
    if place == "expr_str":
        _require_arithmetic(text, file)
    elif place in ("in_spec", "out_spec"):
        _require_containers(json.loads(text)[1] if text else {}, file, names=place == "in_spec")
    elif place == "target":
        if not TARGET.fullmatch(text):
            raise _refusal(file, f"the operator {text!r}, which is none of torch's")
    else:
        _require_without(NOT_IN_TEXT if place == "as_string" else NOT_IN_NAMES, text, file)


def _require_without(forbidden: re.Pattern[str], text: str, file: str) -> None:
    if forbidden.search(text):
        raise _refusal(file, f"the name {text!r}, which torch would write into code")


def _require_arithmetic(text: str, file: str) -> None:
    """Raise unless `text` is arithmetic of symbols, sympy classes and torch's size functions."""
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        nodes = []
    if not nodes or not all(isinstance(node, ARITHMETIC) and _is_harmless(node) for node in nodes):
        raise _refusal(file, f"the size {text!r}, which is no arithmetic of sizes")


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
    if isinstance(node, ast.Name):
        return node.id in FUNCTIONS or SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, (str, bytes)) or re.fullmatch(r"[\w.+-]*", str(node.value)) is not None
    return True


def _require_containers(spec: Any, file: str, names: bool) -> None:
    """Raise if a tree spec names a module, or if `names` could be code."""
    if isinstance(spec, str):
        try:
            inner = json.loads(spec)
        except ValueError:
            inner = spec
        if isinstance(inner, str):
            _require_without(NOT_IN_NAMES if names else re.compile(r"(?!)"), inner, file)
            return
        spec = inner
    if isinstance(spec, dict) and ("__enum__" in spec or "default_factory_module" in spec):
        raise _refusal(file, "an input or output that names Python code to import (an Enum, a defaultdict)")
    for one in spec.values() if isinstance(spec, dict) else spec if isinstance(spec, list) else ():
        _require_containers(one, file, names)


def _refusal(file: str, what: str) -> CaptureError:
    return CaptureError(
        f"{file} is not read, for it holds {what}: reading it could run code; export the network again from its source"
    )
