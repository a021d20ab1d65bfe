"""snndeploy: spiking neural networks from training to stateful ONNX, Lava and an energy estimate."""

__version__ = "0.1.0"
