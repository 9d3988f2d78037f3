"""Derive the JSON schema of recipes, by which editors complete and check them."""

from __future__ import annotations

from typing import Any

from .config import CompressRequest
from .options import Field
from .recipe import tables_of

DIALECT = "http://json-schema.org/draft-07/schema#"  # that taplo reads


def schema_of(config: type = CompressRequest) -> dict[str, Any]:
    """Return the JSON schema of recipes: a table of options each, nothing else allowed."""
    tables = {
        table: _object({key: _property(one) for key, one in keys.items()}) for table, keys in tables_of(config).items()
    }
    return {"$schema": DIALECT, "title": "A recipe of prunec compress", **_object(tables)}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _property(one: Field) -> dict[str, Any]:
    """Return the schema of one key, with its documentation and its default."""
    assert one.option.kind is not None, one.name
    default = {} if one.shown_default is None else {"default": one.default}
    if default and one.default is None:
        default = {"description": f"{one.option.help} Default: {one.shown_default}."}
    return {**one.option.kind.schema, "description": one.option.help, **default}
