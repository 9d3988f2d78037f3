"""Run ONNX models in ONNX Runtime, and compare them with their networks."""
