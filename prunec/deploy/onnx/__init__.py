"""Export networks to ONNX, clean the graphs, and read them back."""
