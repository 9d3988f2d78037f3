"""Rewrites of an ONNX graph, one idea a file; `prunec.deploy.clean` runs them. Each keeps what the outputs compute."""
