"""Find problems in an ONNX file that an engine refuses or runs slowly."""
