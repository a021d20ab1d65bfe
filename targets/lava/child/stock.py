"""A stock bundle as a network of Lava's own processes, with their fixed-point models.

Ours are only the source of the samples, the delays, the neurons that silence a population between samples, and
the recorder.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.process import Conv
from lava.proc.dense.models import PyDenseModelBitAcc
from lava.proc.dense.process import Dense
from lava.proc.lif.models import PyLifResetModelBitAcc
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.models import PySparseModelBitAcc
from lava.proc.sparse.process import Sparse, csr_matrix  # SciPy is Lava's dependency, not ours

if TYPE_CHECKING:
    from snndeploy.targets.lava.child.execution import execute, machine_steps
    from snndeploy.targets.lava.child.failure import ending_all
    from snndeploy.targets.lava.child.processes.stream import (
        Delay,
        DelayModel,
        Recorder,
        Source,
        SourceModel,
        recorder_model,
    )
    from snndeploy.targets.lava.child.records import Silence, Values, Window, Writer, channels_last, window_of
else:  # run as a script, this folder is on the path and snndeploy is not
    from execution import execute, machine_steps
    from failure import ending_all
    from processes.stream import Delay, DelayModel, Recorder, Source, SourceModel, recorder_model
    from records import Silence, Values, Window, Writer, channels_last, window_of

_NO_CURRENT_LEFT = 4095  # `du` of a current without memory
_LARGEST_MEMBRANE = 2**23 - 1
_GRADED_BITS = 16  # any number above 0 makes a synapse take whole numbers instead of spikes


def run(job: Mapping[str, Any], manifest: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """Runs the samples of a job through its bundle and writes the results into the job's folder.

    Args:
        job: `bundle` (folder), `samples` (.npy), `count` and `results` (folder).
        manifest: Of the bundle.
        request: `error` and `progress` (files), and whether `potentials` are asked for: of Lava's own neurons
            only those after the reset can be seen, which become `rests`.
    """
    models = StockNetwork(job, manifest, request).models
    # Naming the model of every process keeps Lava from searching, and executing, folders for one.
    configuration = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)
    execute(next(iter(models)), configuration, machine_steps(manifest, job["count"]), job, request)


class StockNetwork:
    """The Lava processes of a bundle and the model of each.

    Args:
        job: See `run`.
        manifest: Of the bundle.
        request: See `run`.
    """

    def __init__(
        self, job: Mapping[str, Any], manifest: Mapping[str, Any], request: Mapping[str, Any]
    ) -> None:
        self.models: dict[Any, type] = {}
        self._manifest, self._samples = manifest, job["count"]
        self._guard = partial(ending_all, request["error"])
        self._populations = {p["name"]: p for p in manifest["populations"]}
        self._out: dict[tuple[str, int], Any] = {}  # OutPort by population and machine steps of delay
        self._input = next(p["name"] for p in manifest["populations"] if p["type"] == "Input")
        self._add_populations(job)
        recorder = self._add_recorder(job, request)
        with np.load(Path(job["bundle"], "weights.npz"), allow_pickle=False) as arrays:
            for entry in manifest["stock"]["populations"]:
                self._connect(entry, recorder, arrays)

    def _window(self, name: str) -> Window:
        return window_of(self._populations[name], self._manifest, self._samples)

    def _add(self, process: Any, model: type) -> Any:
        self.models[process] = model
        return process

    def _add_populations(self, job: Mapping[str, Any]) -> None:
        self._neurons: dict[str, Any] = {}
        silenced = {entry["name"] for entry in self._manifest["stock"]["populations"] if entry["silence"]}
        for name, population in self._populations.items():
            if population["type"] == "Lif":
                neurons = self._add(self._lif(population, name in silenced), PyLifResetModelBitAcc)
                self._neurons[name], self._out[name, 0] = neurons, neurons.s_out
        shape = self._populations[self._input]["shape"]
        bits = self._manifest["stock"]["input_bits"]
        make = partial(Values, job["samples"], shape, bits, self._window(self._input))
        self._out[self._input, 0] = self._source("source of the samples", _lava_shape(shape), make).s_out

    def _lif(self, population: Mapping[str, Any], silenced: bool) -> LIFReset:
        registers, window = population["registers"], self._window(population["name"])
        shape = _lava_shape(population["shape"])

        def neurons(name: str) -> npt.NDArray[np.int32]:
            channels = np.asarray(registers[name], np.int32)
            return np.broadcast_to(channels, shape).copy()  # channels come last

        return LIFReset(
            shape=shape,
            du=_NO_CURRENT_LEFT,
            dv=registers["decay"],
            vth=neurons("threshold"),
            bias_mant=neurons("bias_mantissa"),
            bias_exp=neurons("bias_exponent"),
            v=-_LARGEST_MEMBRANE if silenced else 0,
            reset_interval=window.period,
            reset_offset=(window.start + 1) % window.period,  # Lava counts machine steps from 1
        )

    def _source(self, name: str, shape: tuple[int, ...], make: Any) -> Source:
        source: Source = self._add(
            Source(name=name, shape=shape, make_values=make, guard=self._guard), SourceModel
        )
        return source

    def _add_recorder(self, job: Mapping[str, Any], request: Mapping[str, Any]) -> Recorder:
        """The last InPort of the recorder is the Output."""
        *lifs, output = (p for p in self._manifest["populations"] if p["type"] != "Input")
        recorder: Recorder = Recorder(
            shapes=[_lava_shape(p["shape"]) for p in (*lifs, output)],
            read=range(len(lifs)) if request["potentials"] else (),
            make_writer=partial(Writer, self._manifest, job, request),
            guard=self._guard,
        )
        self._add(recorder, recorder_model(recorder))
        for index, population in enumerate(lifs):
            neurons = self._neurons[population["name"]]
            neurons.s_out.connect(getattr(recorder, f"sees_{index}"))
            if request["potentials"]:
                getattr(recorder, f"reads_{index}").connect_var(neurons.v)
        return recorder

    def _connect(self, entry: Mapping[str, Any], recorder: Recorder, arrays: Mapping[str, Any]) -> None:
        name = entry["name"]
        is_lif = name in self._neurons
        into = self._neurons[name].a_in if is_lif else getattr(recorder, f"sees_{len(self._neurons)}")
        for synapse in entry["synapses"]:
            source = self._delayed(synapse["source"], synapse["hold"])
            graded = _GRADED_BITS if synapse["source"] == self._input else 0
            weight = arrays[synapse["weight"]]
            if synapse["type"] == "Conv":
                conv = self._conv(synapse, weight, source.shape, graded)
                source.connect(conv.s_in)
                conv.a_out.connect(into)
            else:
                self._matrix(source, synapse, weight, into, graded)
        if silence := entry["silence"]:
            neuron = self._source(f"silence of {name!r}", (1,), partial(Silence, self._window(name)))
            self._matrix(neuron.s_out, {"type": "Dense", **silence}, arrays[silence["weight"]], into)

    def _delayed(self, name: str, hold: int) -> Any:
        if (name, hold) not in self._out:
            source = self._out[name, 0]
            delay = self._add(Delay(shape=source.shape, hold=hold), DelayModel)
            source.connect(delay.s_in)
            self._out[name, hold] = delay.s_out
        return self._out[name, hold]

    def _conv(
        self, synapse: Mapping[str, Any], weight: npt.NDArray[np.int32], shape: tuple[int, ...], graded: int
    ) -> Conv:
        conv: Conv = self._add(
            Conv(
                weight=weight,
                input_shape=shape,
                stride=tuple(synapse["stride"]),
                padding=tuple(synapse["padding"]),
                groups=synapse["groups"],
                num_message_bits=graded,
            ),
            PyConvModelFixed,
        )
        return conv

    def _matrix(
        self,
        source: Any,
        synapse: Mapping[str, Any],
        weight: npt.NDArray[np.int32],
        into: Any,
        graded: int = 0,
    ) -> None:
        constants = {"weight_exp": synapse["weight_exp"], "num_message_bits": graded}
        if synapse["type"] == "Dense":
            process = self._add(Dense(weights=weight, **constants), PyDenseModelBitAcc)
        else:
            rows, columns, values = weight
            matrix = csr_matrix((values, (rows, columns)), shape=tuple(synapse["shape"]))
            process = self._add(Sparse(weights=matrix, **constants), PySparseModelBitAcc)
        source.flatten().connect(process.s_in)
        process.a_out.reshape(into.shape).connect(into)


def _lava_shape(shape: list[int]) -> tuple[int, ...]:
    return channels_last(np.empty(shape, np.bool_)).shape
