"""Register every supported ONNX operator, one family a file."""

from . import (
    activation,
    arithmetic,
    convolution,
    indexing,
    matrix,
    movement,
    normalisation,
    pooling,
    reduction,
    resizing,
    shape,
)

FAMILIES = (
    activation,
    arithmetic,
    convolution,
    indexing,
    matrix,
    movement,
    normalisation,
    pooling,
    reduction,
    resizing,
    shape,
)
