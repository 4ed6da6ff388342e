r"""Running error analysis: arrays that carry, entry by entry, a bound on the rounding error of whoever computes them.

For MLPs the bounds of `pcbench.rounding` are written out, one formula a quantity.  An attention block is too long for
that, so here every operation bounds the error of its result from those of its operands: \(\gamma_n\) times the sum of
the absolute values of what it adds, and what its derivative makes of the errors it is given.  Terms of second order in
the unit roundoff are covered by a factor of 2 where a derivative is linearised.

**References:** Higham 2002, *Accuracy and Stability of Numerical Algorithms*, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pcbench import oracle
from pcbench.numerics import gamma, tiny
from pcbench.rounding import LIPSCHITZ


@dataclass(frozen=True)
class Rounded:
    """Float64 values and a bound on each one's error, in an implementation that works in `dtype`."""

    value: np.ndarray
    error: np.ndarray
    dtype: str = "float64"

    @classmethod
    def exact(cls, value: np.ndarray, dtype: str = "float64") -> Rounded:
        """What is given, not computed."""
        wide = np.asarray(value, np.float64)
        return cls(wide, np.zeros_like(wide), dtype)

    @property
    def size(self) -> np.ndarray:
        """What the absolute values may be at most."""
        return np.abs(self.value) + self.error

    def becomes(self, value: np.ndarray, error: np.ndarray) -> Rounded:
        """A result of the same dtype, with what underflow may cost added to its error."""
        return Rounded(value, error + tiny(self.dtype), self.dtype)

    def plus(self, other: Rounded) -> Rounded:
        """The sum, entry by entry."""
        g = gamma(0, self.dtype)
        return self.becomes(self.value + other.value, self.error + other.error + g * (self.size + other.size))

    def times(self, factor: float) -> Rounded:
        """The product with a number that is given."""
        value = factor * self.value
        return self.becomes(value, abs(factor) * (self.error + gamma(0, self.dtype) * self.size))

    def through(self, weight: np.ndarray) -> Rounded:
        r"""\(W z\) over the last axis, of \(W\) `(fan_out, fan_in)`."""
        W = np.asarray(weight, np.float64)
        terms = self.error + gamma(W.shape[1], self.dtype) * self.size
        return self.becomes(self.value @ W.T, terms @ np.abs(W).T)

    def dot(self, other: Rounded) -> Rounded:
        """The matrix product over the last two axes."""
        g = gamma(self.value.shape[-1], self.dtype)
        bound = np.abs(self.value) @ other.error + self.error @ other.size + g * (self.size @ other.size)
        return self.becomes(self.value @ other.value, bound)

    def mean(self, axes: tuple[int, ...], keepdims: bool = False) -> Rounded:
        """The mean over some axes."""
        count = int(np.prod([self.value.shape[a] for a in axes]))
        bound = np.mean(self.error + gamma(count, self.dtype) * self.size, axis=axes, keepdims=keepdims)
        return self.becomes(np.mean(self.value, axis=axes, keepdims=keepdims), bound)

    def activated(self, name: str) -> Rounded:
        """An activation function, entry by entry; the identity if it is `linear`."""
        if name == "linear":
            return self
        phi = oracle.PHI[name][0](self.value)
        return self.becomes(phi, LIPSCHITZ * self.error + gamma(0, self.dtype) * (np.abs(phi) + self.size))

    def softmax(self, seen: np.ndarray) -> Rounded:
        r"""The softmax over the last axis of the entries that are `seen`, 0 elsewhere.

        Logits off by \(\delta\) change a probability \(p\) by at most \(2p\max\delta\), to first order.
        """
        masked = np.where(seen, self.value, -np.inf)
        p = np.exp(masked - masked.max(axis=-1, keepdims=True))
        p = p / p.sum(axis=-1, keepdims=True)
        off = np.where(seen, self.error + 2 * gamma(0, self.dtype) * self.size, 0.0).max(axis=-1, keepdims=True)
        return self.becomes(p, p * (4 * off + gamma(p.shape[-1], self.dtype)))

    def normalised(self, epsilon: float) -> Rounded:
        r"""\((z - \bar z)(\overline{(z - \bar z)^2} + \epsilon)^{-1/2}\) over the last axis."""
        axis = (self.value.ndim - 1,)
        centred = self.plus(self.mean(axis, keepdims=True).times(-1.0))
        square = centred.becomes(
            centred.value**2, 2 * centred.size * centred.error + gamma(0, self.dtype) * centred.size**2
        )
        variance = square.mean(axis, keepdims=True)
        v = variance.value + epsilon
        g = gamma(0, self.dtype)
        scale, off = v**-0.5, v**-0.5 * (variance.error / v + g)
        return self.becomes(
            centred.value * scale, centred.error * scale + centred.size * off + g * np.abs(centred.value) * scale
        )
