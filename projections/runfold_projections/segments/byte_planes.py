"""Arrays of 64-bit numbers as compressed byte planes: all first bytes, all second bytes, and so on.

Noise stays at 8 bytes a number, values that began as 32-bit floats take 4 to 5, steps and times hardly any.
"""

import cramjam
import numpy as np
from numpy.typing import NDArray

_ZSTD_LEVEL = 3


def encode_integers(numbers: NDArray[np.int64]) -> bytes:
    """Encode integers as differences. They wrap at 64 bits, and so does the sum that restores the numbers."""
    return _encoded(np.diff(numbers, prepend=np.int64(0)))


def encode_floats(numbers: NDArray[np.float64]) -> bytes:
    """Encode floats, of any shape, in C order."""
    return _encoded(numbers)


def _encoded(numbers: NDArray[np.int64] | NDArray[np.float64]) -> bytes:
    planes = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 8).T
    return bytes(cramjam.zstd.compress(planes.tobytes(), level=_ZSTD_LEVEL))


def decode_floats(data: bytes) -> NDArray[np.float64]:
    """Decode floats into an array of shape (numbers,)."""
    planes = np.frombuffer(bytes(cramjam.zstd.decompress(data)), np.uint8).reshape(8, -1)
    return np.ascontiguousarray(planes.T).view(np.float64).ravel()


def decode_integers(data: bytes) -> NDArray[np.int64]:
    """Decode integers into an array of shape (numbers,)."""
    planes = np.frombuffer(bytes(cramjam.zstd.decompress(data)), np.uint8).reshape(8, -1)
    differences = planes[0].astype(np.int64)
    # All differences but the first are mostly small: planes of zeros are skipped.
    for n in range(1, 8):
        reach = slice(None) if planes[n, 1:].any() else slice(1)
        differences[reach] |= planes[n, reach].astype(np.int64) << (8 * n)
    return np.cumsum(differences)
