"""Read an ONNX file as a `torch.nn.Module` that torch.export can capture."""
