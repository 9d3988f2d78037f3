"""From an ONNX file to a TensorRT or TensorRT-RTX engine, and what of it can be proved on this machine.

settings → package → process → worker (network, config) → store          execution → verification
"""
