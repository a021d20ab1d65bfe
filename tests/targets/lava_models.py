"""Lava's own models against our arithmetic, without Lava processes: neurons, synapses and convolutions.

These tests need Lava in the interpreter that runs them, and `test_lava_models.py` runs them in a process of
their own: Lava sets the start method of multiprocessing when it is imported, which may be done only once.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_matrix

from snndeploy.export.lava.composed import digits
from snndeploy.ir.kernels import conv2d
from snndeploy.ir.neurons import LARGEST_CURRENT, LARGEST_MEMBRANE, Neurons
from snndeploy.ir.ops import Conv2d
from snndeploy.targets.lava.child.synapses import function

NEURONS = 400
STEPS = 40


def lif(reset: int, decay: int, threshold: Any, bias_mantissa: Any, bias_exponent: Any) -> Any:
    """Lava's own model of a LIFReset, as Lava's compiler would set it up."""
    models = importlib.import_module("lava.proc.lif.models")
    model = models.PyLifResetModelBitAcc({"reset_interval": reset, "reset_offset": 1})
    model.u, model.v = np.zeros(NEURONS, np.int32), np.zeros(NEURONS, np.int32)
    model.du, model.dv, model.vth = 4095, decay, threshold
    model.bias_mant, model.bias_exp = bias_mantissa, bias_exponent
    return model


class Port:
    """Stands for a port of a Lava model: gives what it is told to, keeps what it is sent."""

    def __init__(self) -> None:
        self.gives: npt.NDArray[Any] = np.zeros(0)
        self.sent: list[npt.NDArray[Any]] = []

    def recv(self) -> npt.NDArray[Any]:
        """The values to receive."""
        return self.gives

    def send(self, values: npt.NDArray[Any]) -> None:
        """Keeps a copy."""
        self.sent.append(np.array(values))


@pytest.mark.parametrize("decay", [2048, 1024, 3072, 4096, 0, 1, 4095, 1234])
@pytest.mark.parametrize("size", [40, 3000, LARGEST_CURRENT])
def test_neurons(decay: int, size: int) -> None:
    """Random currents, biases of any exponent, per-neuron thresholds, resets: the same spikes and potentials.

    Currents of up to 2**17 - 1 drive potentials into saturation on either side.
    """
    rng = np.random.default_rng([decay, size])
    grid = rng.integers(0, 12, NEURONS)
    unit = np.exp2(-(grid + 7.0))
    mantissa = rng.integers(-4095, 4096, NEURONS)
    exponent = rng.integers(0, 8, NEURONS) if size > 1000 else np.zeros(NEURONS, np.int64)
    threshold = rng.integers(1, size + 1, NEURONS)
    period = 9
    model = lif(period, decay, threshold, mantissa.astype(np.int16), exponent.astype(np.int16))
    model.a_in, model.s_out = Port(), Port()
    ours = Neurons(1 - decay / 4096, 1.0, unit)
    drift = rng.choice([-1, 0, 1], NEURONS) * size // 2
    rest = np.zeros(NEURONS, np.float32)
    saturated, fired = 0, 0
    for k in range(STEPS):
        current = np.clip(rng.integers(-size, size + 1, NEURONS) + drift, -size, size)
        model.time_step, model.a_in.gives = k + 1, current
        model.run_spk()
        if k % period == 0:
            rest[:] = 0
        x = ((current * 64 + mantissa * 2**exponent) * unit).astype(np.float32)
        u = ours.charge(rest, x)
        spikes = u > (threshold * 64 * unit).astype(np.float32)
        rest = np.where(spikes, np.float32(0), u)
        np.testing.assert_array_equal(model.s_out.sent[-1], spikes)
        np.testing.assert_array_equal(model.v * unit, rest)
        saturated += int((np.abs(u / unit) >= LARGEST_MEMBRANE).sum())
        fired += int(spikes.sum())
    assert 0.01 < fired / (STEPS * NEURONS) < 0.9
    if size == LARGEST_CURRENT and decay < 4095:
        assert saturated > 0


def test_a_larger_current_wraps_around() -> None:
    """What the certificate's bound is for: in Lava 2**17 is too strong an inhibition, and excites."""
    model = lif(9, 2048, 100, np.zeros(NEURONS, np.int16), np.zeros(NEURONS, np.int16))
    model.a_in, model.s_out = Port(), Port()
    for current, fires in ((-LARGEST_CURRENT, False), (-LARGEST_CURRENT - 1, True)):
        model.time_step, model.a_in.gives = 1, np.full(NEURONS, current)
        model.run_spk()
        assert model.s_out.sent[-1].all() == fires


@pytest.mark.parametrize("graded", [0, 16])
@pytest.mark.parametrize(
    ("module", "name", "store"),
    [("dense", "PyDenseModelBitAcc", np.asarray), ("sparse", "PySparseModelBitAcc", csr_matrix)],
)
def test_matrices(module: str, name: str, store: Callable[[Any], Any], graded: int) -> None:
    """Lava clips and truncates none of our digits, whatever their signs, and the parts add up to the matrix."""
    models = importlib.import_module(f"lava.proc.{module}.models")
    rng = np.random.default_rng(graded)
    for weight in (
        2 * rng.integers(-127, 128, (5, 30)),
        2 * rng.integers(0, 128, (5, 30)),
        2 * rng.integers(-127, 1, (5, 30)),
        2 * rng.integers(-127, 128, (5, 30)) << np.arange(5)[:, None],
        2 * rng.integers(-3000, 3001, (5, 30)),
        np.zeros((5, 30), np.int64),
    ):
        x = rng.integers(0, 40, 30) if graded else rng.integers(0, 2, 30)
        total = np.zeros(5, np.int64)
        for exponent, part in digits(weight):
            model = getattr(models, name)({"weight_exp": exponent, "num_weight_bits": 8})
            model.weights, model.num_message_bits = store(part), np.asarray([graded])
            model.a_buff, model.s_in, model.a_out = np.zeros(5, np.int32), Port(), Port()
            model.s_in.gives = x
            model.run_spk()
            model.run_spk()
            total += model.a_out.sent[1]
        np.testing.assert_array_equal(total, weight @ x)


def test_models_are_those_of_the_fixed_point_tag() -> None:
    """The models that the child names are what Lava selects by the tag `fixed_pt`."""
    for module, name in (
        ("lif", "PyLifResetModelBitAcc"),
        ("conv", "PyConvModelFixed"),
        ("dense", "PyDenseModelBitAcc"),
        ("sparse", "PySparseModelBitAcc"),
    ):
        models = importlib.import_module(f"lava.proc.{module}.models")
        assert "fixed_pt" in getattr(models, name).tags


def ground_truth(index: int) -> dict[str, npt.NDArray[Any]]:
    """One of the convolutions that Lava's own tests compare with, whose outputs PyTorch computed."""
    try:
        lava = importlib.metadata.distribution("lava-nc")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("lava-nc is not installed in this interpreter")
    folder = Path(str(lava.locate_file("tests/lava/proc/conv/ground_truth")))
    with np.load(folder / f"gt_conv_paris_{index}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("index", range(10))
def test_convolutions_of_lavas_own_tests(index: int) -> None:
    """The interpreter's convolution and the fused form's give what Lava's ground truth says.

    Lava's maps are (x, y, channels), its kernels (out, x, y, in), and it convolves: ours are mirrored. A dilated
    kernel is one with zeros between. Its inputs are no whole numbers, so that sums agree up to rounding.
    """
    truth = ground_truth(index)
    weight, (dx, dy) = truth["weights"], truth["dilation"]
    outputs, kx, ky, inputs = weight.shape
    dilated = np.zeros((outputs, dx * (kx - 1) + 1, dy * (ky - 1) + 1, inputs))
    dilated[:, ::dx, ::dy] = weight
    kernel = np.ascontiguousarray(dilated[:, ::-1, ::-1].transpose(0, 3, 1, 2))
    groups = int(truth["groups"])
    op = Conv2d(
        in_channels=inputs * groups,
        out_channels=outputs,
        kernel=(kernel.shape[2], kernel.shape[3]),
        stride=(int(truth["stride"][0]), int(truth["stride"][1])),
        padding=(int(truth["padding"][0]), int(truth["padding"][1])),
        groups=groups,
    )
    x, expected = truth["input"].transpose(2, 0, 1), truth["out_gt"].transpose(2, 0, 1)
    found = conv2d(x[None], kernel, op)[0]
    size = float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * size)
    step = {"name": "op", "type": "Conv2d", **{f: getattr(op, f) for f in op.__slots__}}
    fused = function(step, {"op.weight": kernel.astype(np.float32)})(x.astype(np.float32))
    np.testing.assert_allclose(fused, expected, rtol=0, atol=2e-6 * size)
    assert size > 100


@pytest.mark.parametrize("graded", [False, True])
def test_convolution_of_whole_numbers_is_the_same_number(graded: bool) -> None:
    """Lava's fixed-point Conv and the interpreter agree to the last digit, with groups, stride and padding."""
    models = importlib.import_module("lava.proc.conv.models")
    rng = np.random.default_rng(3)
    op = Conv2d(in_channels=4, out_channels=6, kernel=(3, 2), stride=(2, 1), padding=(0, 1), groups=2)
    kernel = 2 * rng.integers(-127, 128, (6, 2, 3, 2))
    x = rng.integers(0, 16 if graded else 2, (4, 7, 6))
    expected = conv2d(x[None].astype(np.float64), kernel.astype(np.float64), op)[0]
    model = models.PyConvModelFixed({})
    model.weight = np.ascontiguousarray(kernel[:, :, ::-1, ::-1].transpose(0, 2, 3, 1)).astype(np.int32)
    model.kernel_size, model.stride, model.padding = (
        np.asarray(v) for v in (op.kernel, op.stride, op.padding)
    )
    model.dilation, model.groups = np.ones(2, np.int64), np.asarray([op.groups])
    model.num_message_bits = np.asarray([16 if graded else 0])
    model.a_buf, model.s_in, model.a_out = np.zeros(1), Port(), Port()
    model.s_in.gives = x.transpose(1, 2, 0)
    model.run_spk()
    np.testing.assert_array_equal(model.a_buf.transpose(2, 0, 1), expected)
    assert expected.any()
