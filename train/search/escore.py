"""E-score: how far an untrained network's input gradients agree within the classes.

For class c, Sigma is the matrix of correlation coefficients between the gradients J of its samples, and

    e_c = sum over i, j of log(|Sigma_ij| + 1e-5),   divided by the samples of c if there are more than 100 classes
    score = sum over c of |e_c|                                                   (up to 100 classes)
    score = sum over c and c' of |e_c - e_c'| / number of classes with a value    (more than 100)

Source: BCNAS-SNN, eqs. 9 to 15, after Lopes et al. (ICANN 2021), as their code computes it: the exponents and
the two cases are those of the code. J is the gradient of the sum over batch and classes of the logits' mean over
the steps that the answer is read from, all in the source, with respect to the image, or to all frames.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

MANY_CLASSES = 100  # above it the second form holds

_GUARD = 1e-5


def judged(jacobian: Tensor, labels: Tensor, classes: int) -> tuple[float | None, str]:
    """`e_score`, or None and the reason why there is none."""
    rows = jacobian.detach().flatten(1).cpu().double().numpy()
    groups = labels.cpu().numpy()
    constant = ~np.isfinite(rows).all(1) | (np.ptp(rows, axis=1) == 0)
    if constant.any():
        return None, f"E-score: {int(constant.sum())} of {len(rows)} samples have a constant input gradient"
    members = [rows[groups == label] for label in np.unique(groups)]
    if classes <= MANY_CLASSES:
        return float(sum(abs(_agreement(own)) for own in members)), ""
    values = np.array([_agreement(own) / len(own) for own in members if len(own) > 1])
    if not len(values):
        return None, f"E-score: with {classes} classes it needs a class with two samples"
    return float(np.abs(values[:, None] - values).sum() / len(values)), ""


def e_score(jacobian: Tensor, labels: Tensor, classes: int) -> float | None:
    """The E-score of one batch; higher is better.

    Classes that are missing from the batch take no part. One with a single sample contributes log(1 + 1e-5) up
    to 100 classes and is left out above, as in the source.

    Args:
        jacobian: (batch, ...), gradient with respect to each sample.
        labels: (batch,).
        classes: That the data set has, whether the batch has samples of them or not.

    Returns:
        None where a correlation is undefined, as a sample's gradient is constant: leaving that sample out would
        make scores incomparable, as e_c grows with the square of the number of samples. Above 100 classes also
        if no class has two samples.
    """
    return judged(jacobian, labels, classes)[0]


def _agreement(rows: npt.NDArray[np.float64]) -> float:
    correlations = np.abs(np.atleast_2d(np.corrcoef(rows)))
    return float(np.log(correlations + _GUARD).sum())
