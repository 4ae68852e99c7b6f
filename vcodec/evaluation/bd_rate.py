"""Bjontegaard deltas between two rate-distortion curves.

BD-rate is the mean difference in rate at equal quality, in percent (negative: the tested codec needs fewer bits);
BD-PSNR the mean difference in quality at equal rate, in decibels. Both integrate the curves, interpolated by PCHIP
over the logarithm of the rate, where they overlap (G. Bjontegaard, VCEG-M33, 2001; interpolation as in JVET's sheet).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import bjontegaard

FEWEST_POINTS = 4
LOW_OVERLAP = 0.5
"""Below this the figure rests on a small part of both curves; reports mark it."""


@dataclass(frozen=True)
class RatePoint:
    """One point of a curve: bits per pixel and a quality in decibels (higher is better)."""

    bpp: float
    quality: float


@dataclass(frozen=True)
class BjontegaardDelta:
    """The result of comparing two curves; the deltas are None, with the reason, where they can't be stated."""

    bd_rate: float | None
    """Percent of rate at equal quality."""
    bd_quality: float | None
    """Decibels at equal rate; None too where two points of a curve have one rate."""
    overlap: float
    """The shared range of quality over the range that both curves span together, 0 to 1."""
    reason: str | None = None


def bjontegaard_delta(anchor: Sequence[RatePoint], test: Sequence[RatePoint]) -> BjontegaardDelta:
    """Compare `test` with `anchor`; no delta is made up from too few points or from curves that do not meet."""
    anchor, test = _sorted(anchor), _sorted(test)
    overlap = _overlap([p.quality for p in anchor], [p.quality for p in test])
    reason = _refusal(anchor, test, overlap)
    if reason:
        return BjontegaardDelta(None, None, overlap, reason)
    curves = (_rates(anchor), _qualities(anchor), _rates(test), _qualities(test))
    rate_overlap = _overlap([math.log(r) for r in curves[0]], [math.log(r) for r in curves[2]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns about overlap, which is reported here
        bd_rate = bjontegaard.bd_rate(*curves, method="pchip", require_matching_points=False, min_overlap=0)
        bd_psnr = None
        if rate_overlap > 0 and _rises(curves[0]) and _rises(curves[2]):
            bd_psnr = float(bjontegaard.bd_psnr(*curves, method="pchip", require_matching_points=False, min_overlap=0))
    return BjontegaardDelta(float(bd_rate), bd_psnr, overlap)


def ms_ssim_in_decibels(ms_ssim: float) -> float:
    """-10 log10(1 - MS-SSIM): the scale on which MS-SSIM curves are compared; at most 100 dB."""
    return -10 * math.log10(max(1 - ms_ssim, 1e-10))


def _refusal(anchor: Sequence[RatePoint], test: Sequence[RatePoint], overlap: float) -> str | None:
    for name, curve in (("anchor", anchor), ("test", test)):
        if len(curve) < FEWEST_POINTS:
            return f"the {name} curve has {len(curve)} points; {FEWEST_POINTS} are needed"
        if not _rises(_qualities(curve)):
            return f"the {name} curve does not rise: more rate without more quality"
    if overlap <= 0:
        return "the curves share no range of quality"
    return None


def _rises(values: Sequence[float]) -> bool:
    return all(after > before for before, after in pairwise(values))


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Length of the intersection of two ranges over the length of the range that covers both."""
    if not a or not b:
        return 0.0
    covered = max(*a, *b) - min(*a, *b)
    shared = min(max(a), max(b)) - max(min(a), min(b))
    return max(shared, 0.0) / covered if covered > 0 else 0.0


def _sorted(curve: Sequence[RatePoint]) -> list[RatePoint]:
    return sorted(curve, key=lambda point: (point.bpp, point.quality))


def _rates(curve: Sequence[RatePoint]) -> list[float]:
    return [point.bpp for point in curve]


def _qualities(curve: Sequence[RatePoint]) -> list[float]:
    return [point.quality for point in curve]
