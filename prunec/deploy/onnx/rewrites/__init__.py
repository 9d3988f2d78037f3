"""Rewrite an ONNX graph, one idea a file; outputs are equal."""
