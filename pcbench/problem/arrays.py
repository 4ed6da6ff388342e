r"""Random arrays that have the same bits on every platform, from a counter-based generator.

The bits come from Philox 4x64 (Salmon et al. 2011), whose stream NumPy promises never to change, keyed by the
problem's seed and by the role of the array, so that one array never depends on the shape or order of another.
Everything after the bits uses only operations that IEEE 754 rounds correctly (+, -, *, /, sqrt, frexp): normal
deviates by Wichura's inverse of the normal distribution with a logarithm of our own, orthogonal matrices by plane
rotations with rational sine and cosine.  No library `log`, `exp`, `sin` or BLAS, whose last bits differ between
machines, takes part.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Sequence

import numpy as np

from pcbench.errors import ProblemError

_REMEMBERED = 1 << 18
"""Numbers up to which the arrays of a problem are drawn in one pass and remembered."""
LAWS = ("gaussian", "orthogonal", "low-rank", "zero", "ill-conditioned")

# Wichura 1988, Algorithm AS 241 (PPND16), coefficients from the constant term up.
_CENTRAL = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
_MIDDLE = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_TAIL = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip
_LN2 = 0.6931471805599453


def bits(seed: int, role: str, count: int) -> np.ndarray:
    """`count` raw 64-bit words for one `role` of one `seed`; a longer request begins with the shorter one."""
    key = np.array([seed, zlib.crc32(role.encode())], dtype=np.uint64)
    return np.random.Philox(counter=0, key=key).random_raw(count)


def uniform(seed: int, role: str, *shape: int) -> np.ndarray:
    """Uniform deviates in the open interval (0, 1), 52 bits each, never 0 and never 1."""
    words = bits(seed, role, math.prod(shape)) >> np.uint64(12)
    return ((words.astype(np.float64) + 0.5) * 2.0**-52).reshape(shape)


def normal(seed: int, role: str, *shape: int) -> np.ndarray:
    """Standard normal deviates."""
    return _inverse_normal(uniform(seed, role, *shape))


def normals(seed: int, roles: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """`normal` for several roles: the same numbers, in one pass, because small arrays cost calls and not arithmetic."""
    if sum(map(math.prod, shapes)) > _REMEMBERED:
        return [normal(seed, role, *s) for role, s in zip(roles, shapes, strict=True)]
    together = np.concatenate([uniform(seed, role, math.prod(s)) for role, s in zip(roles, shapes, strict=True)])
    cuts = np.cumsum([math.prod(s) for s in shapes])[:-1]
    return [part.reshape(s) for part, s in zip(np.split(_inverse_normal(together), cuts), shapes, strict=True)]


def matrices(law: str, seed: int, roles: Sequence[str], shapes: Sequence[tuple[int, int]]) -> tuple[np.ndarray, ...]:
    """`draw` for several roles, read-only; small ones are remembered, as several questions are asked of a problem."""
    make = _remembered if sum(map(math.prod, shapes)) <= _REMEMBERED else _draw_arrays
    return make(law, seed, tuple(roles), tuple(shapes))


def _draw_arrays(
    law: str, seed: int, roles: Sequence[str], shapes: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, ...]:
    if law == "gaussian":
        result = normals(seed, roles, shapes)
    else:
        result = [draw(law, seed, role, *shape) for role, shape in zip(roles, shapes, strict=True)]
    for array in result:
        array.flags.writeable = False
    return tuple(result)


_remembered = functools.lru_cache(maxsize=16)(_draw_arrays)


def draw(law: str, seed: int, role: str, rows: int, columns: int) -> np.ndarray:
    r"""A `(rows, columns)` matrix whose entries have variance about 1 (0 for `zero`), drawn from one of `LAWS`.

    `orthogonal` is \(\sqrt{n}\) times a block of a random rotation of \(n = \max(rows, columns)\) dimensions: the
    shorter side's vectors are orthogonal, all of length \(\sqrt{n}\).  `low-rank` has a quarter of full rank,
    `ill-conditioned` has columns scaled by \(2^0 \dots 2^{-20}\).

    **Raises:** `ProblemError` for an unknown law.
    """
    if law == "gaussian":
        return normal(seed, role, rows, columns)
    if law == "orthogonal":
        size = max(rows, columns)
        return math.sqrt(size) * rotation(seed, role, size)[:rows, :columns]
    if law == "low-rank":
        rank = max(1, min(rows, columns) // 4)
        left, right = normal(seed, role + "/left", rows, rank), normal(seed, role + "/right", rank, columns)
        total = np.zeros((rows, columns))
        for r in range(rank):  # not a matrix product: BLAS orders sums differently on each machine
            total = total + left[:, r : r + 1] * right[r : r + 1, :]
        return total / math.sqrt(rank)
    if law == "zero":
        return np.zeros((rows, columns))
    if law == "ill-conditioned":
        powers = (20 * np.arange(columns)) // max(1, columns - 1)
        return np.ldexp(normal(seed, role, rows, columns), -powers[None, :])
    raise ProblemError(f"law={law!r}: needed one of {', '.join(LAWS)}")


def rotation(seed: int, role: str, size: int) -> np.ndarray:
    r"""A random orthogonal `(size, size)` matrix: \(2\lceil\log_2 n\rceil + 2\) rounds of disjoint plane rotations.

    Each round permutes the rows and turns them in pairs by angles with tangent-half uniform in (-1, 1).  Not exactly
    Haar, which nothing here needs; orthogonal to a few units of rounding, and bit-reproducible, which a QR
    factorisation is not.
    """
    rounds, pairs = 2 * max(1, (size - 1).bit_length()) + 2, size // 2
    orders = np.argsort(bits(seed, role + "/orders", rounds * size).reshape(rounds, size), axis=1, kind="stable")
    t = 2 * uniform(seed, role + "/angles", rounds, pairs, 1) - 1
    cosines, sines = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    result = np.eye(size)
    for order, cosine, sine in zip(orders, cosines, sines, strict=True):
        result = result[order]
        even, odd = result[0 : 2 * pairs : 2].copy(), result[1 : 2 * pairs : 2].copy()
        result[0 : 2 * pairs : 2] = cosine * even - sine * odd
        result[1 : 2 * pairs : 2] = sine * even + cosine * odd
    return result


def permutation(seed: int, role: str, size: int) -> np.ndarray:
    """A random permutation of `range(size)`: the order of `size` 64-bit words."""
    return np.argsort(bits(seed, role, size), kind="stable")


def one_hot(seed: int, role: str, rows: int, classes: int) -> np.ndarray:
    """`(rows, classes)` with a single 1 in each row, the class uniform."""
    labels = np.minimum((uniform(seed, role, rows) * classes).astype(np.int64), classes - 1)
    return np.eye(classes)[labels]


def _polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    total = np.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total *= x
        total += c
    return total


def _log(x: np.ndarray) -> np.ndarray:
    """The natural logarithm of positive numbers, to a few units of rounding, from correctly rounded operations."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa, exponent = np.where(low, 2 * mantissa, mantissa), np.where(low, exponent - 1, exponent)
    s = (mantissa - 1) / (mantissa + 1)  # |s| <= 0.172, so 12 terms of the series of 2 artanh(s) reach 1e-19
    series = _polynomial(tuple(2 / (2 * k + 1) for k in range(12)), s * s)
    return exponent * _LN2 + s * series


def _inverse_normal(p: np.ndarray) -> np.ndarray:
    q = p - 0.5
    r = 0.180625 - q * q
    result = q * _polynomial(_CENTRAL[0], r) / _polynomial(_CENTRAL[1], r)
    outside = r < 0  # beyond |q| = 0.425, 15 % of all
    p = p[outside]
    root = np.sqrt(-_log(np.minimum(p, 1 - p)))
    middle = _polynomial(_MIDDLE[0], root - 1.6) / _polynomial(_MIDDLE[1], root - 1.6)
    far = root > 5.0
    if far.any():
        tail = root[far] - 5.0
        middle[far] = _polynomial(_TAIL[0], tail) / _polynomial(_TAIL[1], tail)
    result[outside] = np.copysign(middle, q[outside])
    return result
