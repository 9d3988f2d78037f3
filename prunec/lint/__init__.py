"""What will go wrong, or slowly, with an ONNX file on an engine, read off the file; one rule a module."""
