"""Compare two networks or engines layer by layer, aligned by the names of the ONNX nodes."""
