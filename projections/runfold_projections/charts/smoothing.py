"""Smoothing of a line at full resolution, for a chart to draw beside the points. Non-finite points are skipped."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

MOST_WIDTH = 1_000
"""Largest window, or standard deviation, in points."""
_VIEW = 1_000.0
_STRONGEST = 0.999


class Smoothing(StrEnum):
    """How a line is smoothed; `v` means something else for each.

    TW_EMA: exponential mean whose memory is a part of the x range, v from 0 to below 1 (the slider of W&B's
    time-weighted EMA).
    GAUSS: mean weighted by a bell, v its standard deviation in points. MEAN: mean of the v points around.
    """

    OFF = "off"
    TW_EMA = "tw_ema"
    GAUSS = "gauss"
    MEAN = "mean"


def smooth_values(
    x: NDArray[np.float64], values: NDArray[np.float64], kind: Smoothing, v: float
) -> NDArray[np.float64]:
    """Return the smoothed value at each point, of shape (points,); NaN where the point is not finite. x ascends."""
    finite = np.isfinite(values)
    out = np.full(len(values), np.nan)
    if finite.any():
        out[finite] = _smoothed(x[finite], values[finite], kind, v)
    return out


def _smoothed(x: NDArray[np.float64], values: NDArray[np.float64], kind: Smoothing, v: float) -> NDArray[np.float64]:
    match kind:
        case Smoothing.OFF:
            return values
        case Smoothing.TW_EMA:
            return _tw_ema(x, values, v)
        case Smoothing.GAUSS:
            reach = max(1, int(np.ceil(3 * v)))
            offsets = np.arange(-reach, reach + 1)
            return _weighted(values, np.exp(-0.5 * (offsets / max(v, 1e-9)) ** 2))
        case Smoothing.MEAN:
            return _weighted(values, np.ones(2 * (int(v) // 2) + 1))


def _tw_ema(x: NDArray[np.float64], values: NDArray[np.float64], v: float) -> NDArray[np.float64]:
    weight = min(float(np.sqrt(v)), _STRONGEST)
    span = x[-1] - x[0]
    decay = np.zeros(len(x))
    decay[1:] = weight ** (np.diff(x) / (span if span > 0 else 1.0) * _VIEW)
    return _recurrence(decay, values) / _recurrence(decay, np.ones(len(x)))


def _recurrence(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute s[i] = a[i] s[i-1] + b[i] in blocks, with loops as long as the square root of the length."""
    size = len(a)
    width = max(1, int(np.sqrt(size)))
    rows = -(-size // width)
    factors, sums = np.zeros((rows, width)), np.zeros((rows, width))
    factors.ravel()[:size], sums.ravel()[:size] = a, b
    for n in range(1, width):
        sums[:, n] += factors[:, n] * sums[:, n - 1]
        factors[:, n] *= factors[:, n - 1]
    carried = np.zeros(rows)
    for n in range(1, rows):
        carried[n] = sums[n - 1, -1] + factors[n - 1, -1] * carried[n - 1]
    return (sums + factors * carried[:, None]).ravel()[:size]


def _weighted(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    reach = len(weights) // 2
    # Around the mean, so that large values do not eat the digits of small differences.
    middle = values.mean()
    inside = slice(reach, reach + len(values))
    sums = np.convolve(values - middle, weights)[inside]
    smooth: NDArray[np.float64] = middle + sums / np.convolve(np.ones(len(values)), weights)[inside]
    return smooth
