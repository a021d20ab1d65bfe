"""Data sets by name: raw samples, split once and for all by a seed, and what is presented of them.

Importing this needs NumPy only; each data set imports what it reads its files with when it is loaded.
"""

from snndeploy.train.data.augmentation import shifted
from snndeploy.train.data.catalog import fake, load
from snndeploy.train.data.handwritten import DIGITS_SPLIT, digits
from snndeploy.train.data.samples import Dataset, Samples, batches, network_input
from snndeploy.train.data.split import stratified_order

__all__ = [
    "DIGITS_SPLIT",
    "Dataset",
    "Samples",
    "batches",
    "digits",
    "fake",
    "load",
    "network_input",
    "shifted",
    "stratified_order",
]
