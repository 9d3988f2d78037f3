"""One grammar for passes and strategies in Python, recipes and on the command line.

    pipeline := spec { "," spec }
    spec     := name [ "{" [ key "=" value { "," key "=" value } ] "}" ]
    value    := number | true | false | none | spec | "text"           text is quoted as in JSON

`compensate{method=lstsq{ridge=1e-4}}` binds to a frozen dataclass whose fields are the options, and prints back as
itself: `bind(parse(text), …)` and `text_of(object)` are inverse. A bare word is a spec without options, so
`method=lstsq` and `method=lstsq{}` are the same; a field typed `str` takes its name. One comma may trail a list.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..errors import SpecError, near

TOKEN = re.compile(r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<mark>[{},=])|(?P<word>[^\s{},="]+))')
CONSTANTS: Mapping[str, bool | None] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Spec:
    """A name and its options, as parsed: values are numbers, booleans, None, texts or further specs."""

    name: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        inner = ",".join(f"{key}={print_value(value)}" for key, value in self.options.items())
        return f"{self.name}{{{inner}}}" if inner else self.name


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, at = text, [], 0
        while at < len(text.rstrip()):  # ends: no token is empty
            match = TOKEN.match(text, at)
            if match is None:
                raise SpecError(f"cannot read {text[at:]!r} in {text!r}: unbalanced quote?")
            self.tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
            at = match.end()

    def peek(self) -> str | None:
        return self.tokens[0][1] if self.tokens and self.tokens[0][0] == "mark" else None

    def expect(self, mark: str) -> None:
        if self.peek() != mark:
            found = self.tokens[0][1] if self.tokens else "the end"
            raise SpecError(f"expected '{mark}' but found '{found}' in {self.text!r}; the form is name{{key=value,…}}")
        self.tokens.pop(0)

    def word(self) -> str:
        if not self.tokens or self.tokens[0][0] != "word":
            found = self.tokens[0][1] if self.tokens else "the end"
            raise SpecError(f"expected a name but found '{found}' in {self.text!r}; the form is name{{key=value,…}}")
        return self.tokens.pop(0)[1]

    def spec(self) -> Spec:
        name, options = self.word(), {}
        if self.peek() != "{":
            return Spec(name)
        self.expect("{")
        while self.peek() != "}":  # ends: each round takes a word, or raises
            key = self.word()
            if key in options:
                raise SpecError(f"'{name}' is given '{key}' twice in {self.text!r}; say it once")
            self.expect("=")
            options[key] = self.value()
            if self.peek() != "}":
                self.expect(",")
        self.expect("}")
        return Spec(name, MappingProxyType(options))

    def value(self) -> Any:
        if self.tokens and self.tokens[0][0] == "text":
            return self.quoted()
        spec = self.spec()
        return spec if spec.options else read_word(spec.name)

    def quoted(self) -> str:
        found = self.tokens.pop(0)[1]
        try:
            text: str = json.loads(found)
        except ValueError as error:
            raise SpecError(f"cannot read {found} in {self.text!r}: text is quoted as in JSON ({error})") from error
        return text


def read_word(word: str) -> Any:
    """A number, a constant, or a spec without options."""
    if word in CONSTANTS:
        return CONSTANTS[word]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return Spec(word)


def print_value(value: Any) -> str:
    """The text of an option's value."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, Spec)):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return text_of(value)
    text = str(value)
    plain = re.fullmatch(r"[^\s{},=\"]+", text) and read_word(text) == Spec(text)
    return text if plain else json.dumps(text)


def parse(text: str) -> Spec:
    """Read one spec. Raises SpecError."""
    specs = parse_list(text)
    if len(specs) != 1:
        raise SpecError(f"expected one name{{key=value,…}} but found {len(specs)} in {text!r}")
    return specs[0]


def parse_list(text: str) -> list[Spec]:
    """Read specs separated by commas. Raises SpecError."""
    parser, specs = _Parser(text), []
    try:
        while parser.tokens:  # ends: each round takes a name, or raises
            specs.append(parser.spec())
            if parser.tokens:
                parser.expect(",")
    except RecursionError:
        raise SpecError(f"{text[:40]!r}… is nested too deeply") from None
    return specs


def name_of(kind: type) -> str:
    """The name of a pass or strategy: its file's name, `_` written `-`."""
    return kind.__module__.rsplit(".", 1)[-1].replace("_", "-")


def text_of(thing: Any) -> str:
    """The text form of a pass or strategy: its name and the options that differ from their defaults."""
    options = {}
    for item in (each for each in dataclasses.fields(thing) if each.init):
        value = getattr(thing, item.name)
        default = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
        if value != default:
            options[item.name] = value
    return str(Spec(name_of(type(thing)), options))


def bind(spec: Spec, kind: type, nested: Mapping[str, str], load: Any) -> Any:
    """Make a `kind` from the options of `spec`.

    `nested` maps a field to the folder of strategies that its value names; `load(folder, spec)` builds such a value.
    Raises SpecError on unknown or missing options, and on values of the wrong type or that the class itself refuses.
    """
    known = {item.name: item for item in dataclasses.fields(kind) if item.init}
    for key in spec.options:
        if key not in known:
            hint = near(key, known, f"it has: {', '.join(known) or 'none'}.")
            raise SpecError(f"'{spec.name}' has no option '{key}'; {hint}")
    values = {}
    for key, value in spec.options.items():
        folder = nested.get(key)
        if folder is not None:
            name = value if isinstance(value, str) else print_value(value)  # a strategy may be called `none`
            values[key] = load(folder, value if isinstance(value, Spec) else Spec(name))
            continue
        values[key] = _checked(spec.name, known[key], str(value) if isinstance(value, Spec) else value)
    missing = [key for key, item in known.items() if key not in values and _required(item)]
    if missing:
        raise SpecError(f"'{spec.name}' needs {' and '.join(missing)}: write {spec.name}{{{missing[0]}=…}}")
    try:
        return kind(**values)
    except ValueError as error:  # what a __post_init__ raises
        raise SpecError(f"'{spec}' cannot be: {error}") from error


def _required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _checked(owner: str, item: dataclasses.Field[Any], value: Any) -> Any:
    """The value, converted where no information is lost; annotations are compared as text."""
    wanted = item.type.__name__ if isinstance(item.type, type) else str(item.type)
    allowed: Sequence[str] = [part.strip() for part in wanted.split("|")]
    found = "None" if value is None else type(value).__name__
    if found in allowed:
        return value
    if found == "int" and "float" in allowed and abs(value) <= sys.float_info.max:
        return float(value)
    if "str" in allowed and value is not None:
        return print_value(value)
    raise SpecError(f"'{owner}' wants {item.name} as {wanted}, not {print_value(value)}")
