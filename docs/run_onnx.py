"""Logits of an exported step file, with NumPy and ONNX Runtime alone: run_onnx.py step.onnx images.npy.

The images are prepared, float32 (batch, channels, height, width), and shown at every step.
"""

import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
x, about = np.load(sys.argv[2]), session.get_modelmeta().custom_metadata_map
steps, readout = int(about["snndeploy.steps"]), int(about["snndeploy.readout"])
table = json.loads(about["snndeploy.states"])
names, total = ["logits", *(state["out"] for state in table)], np.float32(0)
states = {state["in"]: np.zeros([len(x), *state["shape"][1:]], state["dtype"]) for state in table}
for t in range(steps):
    logits, *after = session.run(names, {"x": x, **states})
    states = dict(zip(states, after, strict=True))
    total = total + logits * (t >= steps - readout)
np.savetxt(sys.stdout, total / np.float32(readout), "%.9g")
