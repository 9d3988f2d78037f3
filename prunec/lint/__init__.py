"""Read off an ONNX file what will fail or be slow on an engine; one rule a module."""
