"""Register every supported ONNX operator, one family a file."""

import importlib
import pkgutil

FAMILIES = tuple(importlib.import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__))
