"""How much work an inference is: exact whole numbers from the graph and measured spikes, without prices."""

from snndeploy.targets.counts.counter import Countable, Counter, Skeleton, count
from snndeploy.targets.counts.counts import Counts, LayerCount, MacCount, PerSample, SynapseCount, merge
from snndeploy.targets.counts.operations import Bytes, OpCount, op_counts, storage

__all__ = [
    "Bytes",
    "Countable",
    "Counter",
    "Counts",
    "LayerCount",
    "MacCount",
    "OpCount",
    "PerSample",
    "Skeleton",
    "SynapseCount",
    "count",
    "merge",
    "op_counts",
    "storage",
]
