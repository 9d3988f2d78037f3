"""Lower the precision of an ONNX model: FP16, BF16, FP8 and INT8."""
