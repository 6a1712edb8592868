"""`onnx`: any image classifier or tagger in an ONNX file."""
