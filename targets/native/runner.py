"""Simulates a bundle in this process: many samples at once, each thread with samples of its own."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from snndeploy import ir
from snndeploy.errors import TargetError
from snndeploy.ir.neurons import Neurons, neurons
from snndeploy.targets.lava import Bundle, Simulation, read
from snndeploy.targets.native.machine import Machine, Update, machine

if TYPE_CHECKING:
    from torch import Tensor

    from snndeploy.targets.native.recording import Recording
    from snndeploy.targets.native.synapses import Function

_BATCH_BYTES = 2**22  # of the largest population's values for one batch
_LEAST_BATCH, _LARGEST_BATCH = 4, 16  # small ones convolve slowly, larger ones no faster


def simulate(
    bundle: str | os.PathLike[str],
    *,
    samples: npt.NDArray[Any] | None = None,
    count: int | None = None,
    potentials: bool = False,
    threads: int = 1,
    batch: int | None = None,
    streamed: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Simulation:
    """Runs a bundle, of either form, without Lava, following the machine steps of its schedule.

    In the `exact` and `loihi` formats it computes the same bits as Lava, whatever the batch and the number of
    threads. Samples that stream back to back cannot meet if the blank steps between them suffice; then they run
    side by side, each as if it were the first. Otherwise, or if asked to, they run one after the other.

    Args:
        bundle: A folder that `snndeploy.export.lava` wrote.
        samples: Prepared input as `ir.run` takes it: (batch, *shape) for images or (time, batch, *shape); the
            bundle's own samples if None.
        count: Only the first so many samples.
        potentials: Also record membrane potentials (four bytes per neuron, sample and step).
        threads: Of the CPU, each with samples of its own.
        batch: Samples at a time in each thread; None for as many as fit into its cache.
        streamed: Run samples one after the other through the same machine, in one thread.
        progress: Called with the number of samples done and to do.

    Returns:
        What the bundle does. `machine_steps` are those of the samples streamed back to back, as Lava runs them.

    Raises:
        FileFormatError: The bundle is damaged, of another version, or none.
        NetworkError: Samples do not fit the network or its number format.
        TargetError: There are not so many samples, or PyTorch is missing.
    """
    begin = time.perf_counter()
    job = _job(read(bundle), samples, count, potentials)
    total = job.values.shape[1]
    streamed = streamed or not job.machine.keeps_samples_apart()
    size = total if streamed else batch or _fitting_batch(job.network.graph, -(-total // threads))
    parts = [(first, min(first + size, total)) for first in range(0, total, size)]
    done = 0
    with closing(_in_threads(partial(job.run, streamed=streamed), parts, threads)) as running:
        for finished in running:
            done += finished
            if progress:
                progress(done, total)
    trace = job.recording.trace(job.network)
    return Simulation(trace, job.machine.machine_steps(total), time.perf_counter() - begin)


@dataclass(frozen=True, eq=False)
class _Job:
    """What all batches have in common.

    constants: Of each Lif, by name.
    functions: Each op between populations as a function of its summed input, by name.
    values: Prepared input, (time, samples, *shape), time being 1 for static images.
    recording: What they all record into, each its own rows.
    """

    network: ir.Network
    machine: Machine
    constants: Mapping[str, Neurons]
    functions: Mapping[str, Function]
    values: Tensor
    recording: Recording

    def run(self, part: tuple[int, int], *, streamed: bool) -> int:
        """Runs the samples from one up to, not including, another, side by side or in a row; returns how many."""
        import torch  # noqa: PLC0415

        first, last = part
        batch = 1 if streamed else last - first
        torch.set_num_threads(1)  # for this thread, too
        with torch.inference_mode():
            updates = self._updates(self.values[:, first:last], self.recording.rows(first, last), batch)
            self.machine.run((last - first) // batch, updates)
        return last - first

    def _updates(self, values: Tensor, recording: Recording, batch: int) -> dict[str, Update[Tensor]]:
        """What each population does with some samples."""
        from snndeploy.targets.native.layers import Membranes, Readout, Source  # noqa: PLC0415
        from snndeploy.targets.native.synapses import Synapses  # noqa: PLC0415

        graph = self.network.graph

        def synapses(name: str) -> Synapses:
            return Synapses(graph, name, self.functions, static=len(values) == 1, batch=batch)

        found: dict[str, Update[Tensor]] = {graph.input: Source(values, batch).update}
        for name, constants in self.constants.items():
            spikes, potentials = recording.spikes[name], recording.potentials.get(name)
            shape = graph.shapes[name]
            found[name] = Membranes(constants, shape, synapses(name), spikes, potentials, batch).update
        first_counted = self.network.steps - self.network.readout
        readout = Readout(synapses(graph.output), recording.readout_sum, first_counted, batch)
        return {**found, graph.output: readout.update}


def _job(bundle: Bundle, samples: npt.NDArray[Any] | None, count: int | None, potentials: bool) -> _Job:
    try:
        import torch  # noqa: PLC0415
    except ImportError as error:
        remedy = "install torch, or simulate with Lava"
        raise TargetError("native engine", "needs PyTorch", remedy=remedy) from error
    from snndeploy.targets.native.recording import Recording  # noqa: PLC0415
    from snndeploy.targets.native.synapses import functions  # noqa: PLC0415

    network = bundle.network
    x = bundle.inputs if samples is None else samples
    values = ir.as_steps(network, x)
    if np.ndim(x) < values.ndim:
        values = values[:1]
    available = values.shape[1]
    wanted = available if count is None else count
    if not 1 <= wanted <= available:
        raise TargetError(f"bundle {bundle.path}", f"samples to run must be 1 to {available}", got=wanted)
    return _Job(
        network,
        machine(network, bundle.schedule),
        neurons(network),
        functions(network),
        torch.from_numpy(np.require(values[:, :wanted], requirements="W")),
        Recording.new(network, wanted, potentials=potentials),
    )


def _fitting_batch(graph: ir.Graph, most: int) -> int:
    """As many samples as fit into the cache of a core, population by population, within what is fast."""
    largest = max(math.prod(graph.shapes[name]) for name in ir.populations(graph))
    fitting = _BATCH_BYTES // (4 * largest)
    return max(1, min(max(_LEAST_BATCH, min(fitting, _LARGEST_BATCH)), most))


def _in_threads(
    run: Callable[[tuple[int, int]], int], parts: list[tuple[int, int]], threads: int
) -> Generator[int]:
    """Runs parts, of which each uses one thread, in so many threads, and yields what they return."""
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="native")
    try:
        if threads == 1:  # the memory of the main thread is handed back to the system less often
            yield from map(run, parts)
        else:
            running = [pool.submit(run, part) for part in parts]
            yield from (one.result() for one in as_completed(running))
    finally:  # after an error or Ctrl-C, too: nothing may write into what has been freed
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)
