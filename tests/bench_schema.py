"""Check documents against docs/benchmark.schema.json, by the keywords of JSON Schema that it uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMA: dict[str, Any] = json.loads((Path(__file__).resolve().parents[1] / "docs/benchmark.schema.json").read_text())
TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float)}
KEYWORDS = {
    *("$schema", "$ref", "title", "description", "definitions", "type", "enum"),
    *("required", "properties", "additionalProperties", "items"),
}


def checked(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document. Raises AssertionError, with the place, where it is not by the schema."""
    _check(document, SCHEMA, "$")
    return document


def _check(value: Any, rule: dict[str, Any], place: str) -> None:
    assert rule.keys() <= KEYWORDS, place
    if "$ref" in rule:
        rule = SCHEMA["definitions"][rule["$ref"].removeprefix("#/definitions/")]
    assert value in rule.get("enum", [value]), place
    fits = "type" not in rule or isinstance(value, TYPES[rule["type"]])
    assert fits, f"{place} is {value!r}"
    for index, one in enumerate(value if "items" in rule else ()):
        _check(one, rule["items"], f"{place}[{index}]")
    if rule.get("type") != "object":
        return
    assert set(rule.get("required", ())) <= value.keys(), f"{place} has {sorted(value)}"
    for name, one in value.items():
        other = rule.get("additionalProperties", {})
        inner = rule.get("properties", {}).get(name, other)
        assert inner is not False, f"{place} has an unknown {name}"
        _check(one, inner, f"{place}.{name}")
