"""Build, run and verify TensorRT and TensorRT-RTX engines of ONNX files.

settings → package → process → worker (network, config) → store          execution → verification
"""
