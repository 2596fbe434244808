"""Seeded weights and images that are the same bytes on every machine.

Only a bit generator's raw stream, integers and correctly rounded operations (IEEE 754: division, square root,
product) are used: NumPy's distributions may change between versions (NEP 19), and sums of floats with the machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

_SUMMED = 4  # uniform 16-bit numbers whose sum is near enough to normal
_DEVIATION = math.sqrt(_SUMMED * (2.0**32 - 1) / 12)  # of that sum


def draw(seed: int, layer: int, shape: tuple[int, ...], gain: float) -> Floats:
    """Return the weights of one layer, output channels first, near to normal, of variance gain^2 / fan-in.

    He et al. 2015, "Delving Deep into Rectifiers", have gain sqrt(2). The weights of each output channel sum to zero,
    up to rounding: what all inputs of a layer have in common, the mean that a rectifier leaves, would otherwise grow
    from layer to layer until every image gets the same answer. Trained networks have normalization for that.
    """
    import numpy as np

    raw = np.random.PCG64([seed, layer]).random_raw(math.prod(shape))
    numbers = raw.astype("<u8").view("<i2").reshape(-1, _SUMMED).sum(axis=1, dtype=np.int32).reshape(shape[0], -1)
    fan_in = numbers.shape[1]
    sums = numbers.sum(axis=1, dtype=np.int64, keepdims=True)
    scale = gain / (_DEVIATION * math.sqrt(fan_in))
    weights: Floats = ((numbers - sums / fan_in) * scale).astype(np.float32).reshape(shape)
    return weights


def patterns(seed: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield images [224, 224, 3] of coloured squares, from one to 112 x 112 of them: to observe ranges on."""
    import numpy as np

    for number, cells in enumerate((1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 112)):
        colours = np.random.PCG64([seed, number]).random_raw(cells * cells * 3) % 256
        squares = np.ones((224 // cells, 224 // cells, 1), np.uint8)
        yield np.kron(colours.astype(np.uint8).reshape(cells, cells, 3), squares)


def rounded_up(value: float, digits: int = 4) -> float:
    """Return `value` rounded up to so many binary digits, as bounds are that shall not depend on the last ones."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.ceil(math.ldexp(mantissa, digits)), exponent - digits)
