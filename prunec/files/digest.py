"""Compute the sha256, in hexadecimal, of JSON content and of files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def of_json(content: object) -> str:
    """Digest content as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def of_files(*paths: Path) -> str:
    """Digest the bytes of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):  # ends: with the file
                digest.update(chunk)
    return digest.hexdigest()
