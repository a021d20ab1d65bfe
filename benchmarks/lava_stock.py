"""A chain of convolutions and LIFs made of Lava's own Conv, LIF and source processes; started by lava_fused.py.

`python -I lava_stock.py ARRAYS RESULT STEPS`: ARRAYS is an .npz with `frames` (steps, channels, height, width) and
`weight0`, `weight1`, ... (out, in, *kernel); RESULT a JSON file for the seconds that STEPS machine steps took, the
start included; the last membrane potential of each LIF goes to RESULT.npz.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIF


def chain(arrays: Any) -> list[Any]:
    """Source -> Conv -> LIF -> Conv -> LIF ..., connected; returns the LIFs.

    Lava's Conv convolves maps (height, width, channels), so that correlation kernels are flipped.
    """
    source = RingBuffer(data=arrays["frames"].transpose(2, 3, 1, 0))
    lifs: list[Any] = []
    out, shape = source.s_out, source.s_out.shape
    while f"weight{len(lifs)}" in arrays:
        weight = arrays[f"weight{len(lifs)}"][:, :, ::-1, ::-1].transpose(0, 2, 3, 1)
        conv = Conv(weight=np.ascontiguousarray(weight), input_shape=shape, padding=weight.shape[1] // 2)
        shape = conv.output_shape
        lif = LIF(shape=shape, du=1.0, dv=0.5, vth=1.0)
        out.connect(conv.s_in)
        conv.a_out.connect(lif.a_in)
        out = lif.s_out
        lifs.append(lif)
    return lifs


def main(arrays_path: str, result_path: str, steps: int) -> None:
    """Runs the chain and writes what the module's docstring says."""
    begin = time.perf_counter()
    with np.load(arrays_path, allow_pickle=False) as arrays:
        lifs = chain(dict(arrays))
    lifs[0].run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="floating_pt"))
    seconds = time.perf_counter() - begin
    potentials = {f"lif{index}": lif.v.get().transpose(2, 0, 1) for index, lif in enumerate(lifs)}
    lifs[0].stop()
    np.savez(f"{result_path}.npz", **potentials)
    versions = {name: version(name) for name in ("lava-nc", "numpy")} | {"Python": platform.python_version()}
    Path(result_path).write_text(json.dumps({"seconds": seconds, "versions": versions}), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
