"""The graph and what is computed from it: shapes, loops, fan-out, timing, folding, formats, files."""

from snndeploy.inputs import InputSpec
from snndeploy.ir.backward import (
    BackwardConnection,
    architectures,
    backward_connections,
    possible_connections,
    with_backward,
)
from snndeploy.ir.certificate import Certificate, certify
from snndeploy.ir.files import fingerprint, load, save
from snndeploy.ir.fold import fold
from snndeploy.ir.formats import Exact, Float32, Loihi, NumberFormat
from snndeploy.ir.graph import Edge, Graph
from snndeploy.ir.loops import Component, components
from snndeploy.ir.network import (
    Network,
    check_steps,
    parameter_count,
    parameter_shapes,
    require_folded,
)
from snndeploy.ir.ops import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    Input,
    Lif,
    Linear,
    Op,
    Output,
    Shape,
    Upsample,
)
from snndeploy.ir.populations import Synapse, arrivals, is_population, populations, synapses, upstream
from snndeploy.ir.quantize.formats import format_difference, in_format
from snndeploy.ir.quantize.posttraining import Quantized, quantize
from snndeploy.ir.quantize.report import LayerReport, layer_reports
from snndeploy.ir.run import Trace, as_steps, run
from snndeploy.ir.timing import Schedule, schedule
from snndeploy.ir.verify import Comparator, Comparison, compare

__all__ = [
    "AvgPool2d",
    "BackwardConnection",
    "BatchNorm",
    "Certificate",
    "Comparator",
    "Comparison",
    "Component",
    "Conv2d",
    "Dropout",
    "Edge",
    "Exact",
    "Flatten",
    "Float32",
    "Graph",
    "Input",
    "InputSpec",
    "LayerReport",
    "Lif",
    "Linear",
    "Loihi",
    "Network",
    "NumberFormat",
    "Op",
    "Output",
    "Quantized",
    "Schedule",
    "Shape",
    "Synapse",
    "Trace",
    "Upsample",
    "architectures",
    "arrivals",
    "as_steps",
    "backward_connections",
    "certify",
    "check_steps",
    "compare",
    "components",
    "fingerprint",
    "fold",
    "format_difference",
    "in_format",
    "is_population",
    "layer_reports",
    "load",
    "parameter_count",
    "parameter_shapes",
    "populations",
    "possible_connections",
    "quantize",
    "require_folded",
    "run",
    "save",
    "schedule",
    "synapses",
    "upstream",
    "with_backward",
]
