"""Lowerings: a network becomes an ONNX file or a Lava bundle."""
