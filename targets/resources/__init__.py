"""What a network takes of a chip: cores, memory, axons and messages, and what does not fit.

All of it is a lower bound: a compiler also stores tables and routes, and may leave cores half full.
"""

from snndeploy.targets.resources.mapping import Mapping, Placed, analog_streams, map_onto
from snndeploy.targets.resources.messages import Messages, messages
from snndeploy.targets.resources.violations import Violation, is_analog, violations, weight_bits

__all__ = [
    "Mapping",
    "Messages",
    "Placed",
    "Violation",
    "analog_streams",
    "is_analog",
    "map_onto",
    "messages",
    "violations",
    "weight_bits",
]
