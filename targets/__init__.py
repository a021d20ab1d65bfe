"""What a network runs on: profiles, the energy estimate, and the runners of ONNX Runtime and Lava."""
