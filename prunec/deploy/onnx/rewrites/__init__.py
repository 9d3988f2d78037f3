"""Rewrites of an ONNX graph, one idea a file; `prunec.deploy.onnx.clean` runs them. Outputs stay equal."""
