"""Compare two networks or engines layer by layer, aligned by ONNX node names."""
