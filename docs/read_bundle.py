"""Checks a Lava bundle and computes its readout anew, with NumPy alone: read_bundle.py FOLDER."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

about = json.loads(((folder := Path(sys.argv[1])) / "manifest.json").read_text())
hashes = {**about["files"], "manifest.json": about.pop("checksum")}
data = {name: (folder / name).read_bytes() for name in about["files"]}
data["manifest.json"] = json.dumps(about, sort_keys=True, separators=(",", ":")).encode()
if damaged := [name for name in hashes if hashlib.sha256(data[name]).hexdigest() != hashes[name]]:
    sys.exit(f"damaged: {damaged}")
arrays, values = {**np.load(folder / "weights.npz"), **np.load(folder / "expected.npz")}, {}
print(about["form"], about["number_format"], about["schedule"])
for p in about["populations"]:
    if p["type"] == "Lif":
        bits = np.unpackbits(arrays[f"spikes/{p['name']}"], axis=1)[:, : np.prod(p["shape"])]
        values[p["name"]] = x = bits.reshape(-1, about["steps"], *p["shape"]).astype(np.float32)
    print(p["type"], p["name"], p["shape"], f"fires at {x.mean():.1%}" if p["type"] == "Lif" else "")
for op in [*p["program"], p]:  # what leads into the Output: pools, Flatten and Linear, entered without delay
    x = sum(values[edge["source"]] for edge in op["sources"])
    if op["type"] == "AvgPool2d":
        x = np.lib.stride_tricks.sliding_window_view(x, op["kernel"], (-2, -1)).mean((-2, -1))
        x = x[..., :: op["stride"][0], :: op["stride"][1]]
    w, bias = (arrays.get(f"{op['name']}.{part}", 0) for part in ("weight", "bias"))
    values[op["name"]] = x = x.reshape(*x.shape[:2], -1) @ w.T + bias if op["type"] == "Linear" else x
print("readout as expected:", (x[:, -about["readout"] :].sum(1) == arrays["readout_sum"]).all())
