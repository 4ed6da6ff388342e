r"""Running error analysis: arrays that carry, entry by entry, a bound on the rounding error of whoever computes them.

For MLPs the bounds of `pcbench.oracle.rounding` are written out, one formula a quantity. An attention block is too
long for that, so here every operation bounds the error of its result from those of its operands: \(\gamma_n\) times
the sum of the absolute values of what it adds, and what its derivative makes of the errors it is given. Terms of
second order in the unit roundoff are covered by a factor of 2 where a derivative is linearised.

Operations also remember how to send a derivative back to their operands, with a bound that follows the same rules.
`gradients` runs them in reverse: the derivative of a sum and, entry by entry, how far a correct implementation of it
may be off.  The formulas of `pcbench.oracle.architectures` are thereby written once, for values and for derivatives.

**References:** Higham 2002, *Accuracy and Stability of Numerical Algorithms*, section 3.3; Griewank and Walther 2008,
*Evaluating Derivatives*, chapter 3, for the reverse mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pcbench.oracle import mlp as oracle
from pcbench.oracle.numerics import gamma, tiny
from pcbench.oracle.rounding import LIPSCHITZ

Pair = tuple[np.ndarray, np.ndarray]
"""A derivative and a bound on its error."""
Pull = Callable[[np.ndarray, np.ndarray], Pair]
"""What a derivative of the result, with its bound, means for one operand."""

BEND = 1.2
"""At least the largest second derivative of any activation of `oracle.PHI` but relu (0.80, of gelu)."""


@dataclass(frozen=True, eq=False)
class Rounded:
    """Float64 values and a bound on each one's error, in an implementation that works in `dtype`."""

    value: np.ndarray
    error: np.ndarray
    dtype: str = "float64"
    parents: tuple[tuple[Rounded, Pull], ...] = ()

    @classmethod
    def exact(cls, value: np.ndarray, dtype: object = "float64") -> Rounded:
        """A value that is given and not computed."""
        wide = np.asarray(value, np.float64)
        return cls(wide, np.zeros_like(wide), str(dtype))

    @property
    def size(self) -> np.ndarray:
        """An upper bound on the absolute values."""
        return np.abs(self.value) + self.error

    @property
    def unit(self) -> float:
        r"""\(\gamma\) of an elementwise operation."""
        return gamma(0, self.dtype)

    def derive(self, value: np.ndarray, error: np.ndarray, *parents: tuple[Rounded, Pull]) -> Rounded:
        """A result of the same dtype, with what underflow may cost added to its error."""
        return Rounded(value, error + tiny(self.dtype), self.dtype, parents)

    # ---- entry by entry -----------------------------------------------------------------------------------------

    def plus(self, other: Rounded) -> Rounded:
        """The sum, entry by entry."""
        error = self.error + other.error + self.unit * (self.size + other.size)
        return self.derive(self.value + other.value, error, (self, self._unbroadcast), (other, other._unbroadcast))

    def times(self, factor: float | np.ndarray) -> Rounded:
        """The product with numbers that are given."""
        f, g = np.abs(factor), self.unit
        return self.derive(
            factor * self.value, f * (self.error + g * self.size),
            (self, lambda d, e: self._unbroadcast(factor * d, f * (e + g * (np.abs(d) + e)))),
        )  # fmt: skip

    def product(self, other: Rounded) -> Rounded:
        """The product, entry by entry."""

        def pull(fitted: Pull, factor: Rounded) -> Pull:
            def back(d: np.ndarray, e: np.ndarray) -> Pair:
                size = np.abs(d) + e
                return fitted(d * factor.value, e * factor.size + np.abs(d) * factor.error + g * size * factor.size)

            return back

        g = self.unit
        error = np.abs(self.value) * other.error + self.error * other.size + g * self.size * other.size
        return self.derive(
            self.value * other.value,
            error,
            (self, pull(self._unbroadcast, other)),
            (other, pull(other._unbroadcast, self)),
        )

    def activate(self, name: str) -> Rounded:
        """An activation function, entry by entry; the identity if it is `linear`."""
        if name == "linear":
            return self
        phi, g = oracle.PHI[name][0](self.value), self.unit
        slope = oracle.PHI[name][1](self.value)
        off = BEND * self.error + g * (1 + np.abs(self.value))
        if name == "relu":  # rounding may carry a value across the kink, where the slope jumps by 1
            off = (np.abs(self.value) <= self.error).astype(np.float64)
        return self.derive(
            phi, LIPSCHITZ * self.error + g * (np.abs(phi) + self.size),
            (self, lambda d, e: (slope * d, np.abs(slope) * e + (off + g * np.abs(slope)) * (np.abs(d) + e))),
        )  # fmt: skip

    def inverse_root(self, epsilon: float) -> Rounded:
        r"""\((v + \epsilon)^{-1/2}\), entry by entry."""
        v, g = self.value + epsilon, self.unit
        root, off = v**-0.5, self.error / v + g
        return self.derive(
            root, root * off, (self, lambda d, e: (-0.5 * root / v * d, root / v * (e + 3 * off * (np.abs(d) + e))))
        )

    # ---- sums ---------------------------------------------------------------------------------------------------

    def apply_weight(self, weight: Rounded) -> Rounded:
        r"""\(W z\) over the last axis, of \(W\) `(fan_out, fan_in)`, which is given."""
        W, size = weight.value, np.abs(weight.value)
        rows = int(np.prod(self.value.shape[:-1]))
        inward, outward, across = gamma(W.shape[1], self.dtype), gamma(W.shape[0], self.dtype), gamma(rows, self.dtype)

        def flat(array: np.ndarray) -> np.ndarray:
            return array.reshape(rows, -1)

        def for_weight(d: np.ndarray, e: np.ndarray) -> Pair:
            bound = flat(e).T @ flat(self.size) + flat(np.abs(d)).T @ flat(self.error + across * self.size)
            return flat(d).T @ flat(self.value), bound

        return self.derive(
            self.value @ W.T, (self.error + inward * self.size) @ size.T,
            (self, lambda d, e: (d @ W, (e + outward * (np.abs(d) + e)) @ size)), (weight, for_weight),
        )  # fmt: skip

    def dot(self, other: Rounded) -> Rounded:
        """The matrix product over the last two axes."""
        value, error = _dot(self.value, self.error, other.value, other.error, self.dtype)
        return self.derive(
            value, error,
            (self, lambda d, e: _dot(d, e, _transpose(other.value), _transpose(other.error), self.dtype)),
            (other, lambda d, e: _dot(_transpose(self.value), _transpose(self.error), d, e, self.dtype)),
        )  # fmt: skip

    def mean(self, axes: tuple[int, ...], keepdims: bool = False) -> Rounded:
        """The mean over some axes."""
        shape = self.value.shape
        count, g = int(np.prod([shape[a] for a in axes])), self.unit

        def back(d: np.ndarray, e: np.ndarray) -> Pair:
            d, e = (a if keepdims else np.expand_dims(a, axes) for a in (d, e))
            return np.broadcast_to(d / count, shape), np.broadcast_to((e + g * (np.abs(d) + e)) / count, shape)

        bound = np.mean(self.error + gamma(count, self.dtype) * self.size, axis=axes, keepdims=keepdims)
        return self.derive(np.mean(self.value, axis=axes, keepdims=keepdims), bound, (self, back))

    def half_square(self) -> Rounded:
        """Half the squared norm of each sample, over all its axes: `(batch,)`."""
        axes = tuple(range(1, self.value.ndim))
        total = gamma(int(np.prod(self.value.shape[1:])), self.dtype)
        bound = np.abs(self.value) * self.error + 0.5 * self.error**2 + 0.5 * total * self.size**2

        def back(d: np.ndarray, e: np.ndarray) -> Pair:
            d, e = np.expand_dims(d, axes), np.expand_dims(e, axes)
            return d * self.value, np.abs(d) * self.error + (e + self.unit * np.abs(d)) * self.size

        return self.derive(0.5 * np.sum(self.value**2, axis=axes), np.sum(bound, axis=axes), (self, back))

    def softmax(self, seen: np.ndarray) -> Rounded:
        r"""The softmax over the last axis of the entries that are `seen`, 0 elsewhere.

        Logits off by \(\delta\) change a probability \(p\) by at most \(2p\max\delta\), to first order.
        """
        masked = np.where(seen, self.value, -np.inf)
        p = np.exp(masked - masked.max(axis=-1, keepdims=True))
        p = p / p.sum(axis=-1, keepdims=True)
        off = np.where(seen, self.error + 2 * self.unit * self.size, 0.0).max(axis=-1, keepdims=True)
        g = gamma(p.shape[-1], self.dtype)
        error = p * (4 * off + g)

        def back(d: np.ndarray, e: np.ndarray) -> Pair:
            size = np.abs(d) + e
            total, total_size = np.sum(p * d, axis=-1, keepdims=True), np.sum(p * size, axis=-1, keepdims=True)
            bound = p * e + np.sum(p * e + (error + g * p) * size, axis=-1, keepdims=True) * p
            return p * (d - total), bound + (error + g * p) * (size + total_size)

        return self.derive(p, error, (self, back))

    def normalise(self, epsilon: float) -> Rounded:
        r"""\((z - \bar z)(\overline{(z - \bar z)^2} + \epsilon)^{-1/2}\) over the last axis."""
        axis = (self.value.ndim - 1,)
        centred = self.plus(self.mean(axis, keepdims=True).times(-1.0))
        variance = centred.product(centred).mean(axis, keepdims=True)
        return centred.product(variance.inverse_root(epsilon))

    # ---- order --------------------------------------------------------------------------------------------------

    def rearrange(self, forth: Callable[[np.ndarray], np.ndarray], back: Callable[[np.ndarray], np.ndarray]) -> Rounded:
        """Entries put elsewhere, zeros added or copies made by `forth`, and brought home by its transpose `back`."""

        def pull(d: np.ndarray, e: np.ndarray) -> Pair:
            copies = np.abs(back(np.abs(d) + e))  # entries copied up to 9 times are summed on the way home
            return back(d), back(e) + self.unit * copies

        return Rounded(forth(self.value), forth(self.error), self.dtype, ((self, pull),))

    def _unbroadcast(self, d: np.ndarray, e: np.ndarray) -> Pair:
        """A derivative summed over the axes along which this array was stretched."""
        shape = self.value.shape
        if d.shape == shape:
            return d, e
        lead = d.ndim - len(shape)
        axes = (*range(lead), *(lead + i for i, n in enumerate(shape) if n == 1 and d.shape[lead + i] != 1))
        g = gamma(int(np.prod([d.shape[a] for a in axes])), self.dtype)
        return d.sum(axis=axes).reshape(shape), (e + g * (np.abs(d) + e)).sum(axis=axes).reshape(shape)


def _transpose(array: np.ndarray) -> np.ndarray:
    return np.swapaxes(array, -1, -2)


def _dot(a: np.ndarray, a_error: np.ndarray, b: np.ndarray, b_error: np.ndarray, dtype: str) -> Pair:
    size, other = np.abs(a) + a_error, np.abs(b) + b_error
    return a @ b, np.abs(a) @ b_error + a_error @ other + gamma(a.shape[-1], dtype) * (size @ other)


def concatenate(parts: Sequence[Rounded]) -> Rounded:
    """Arrays side by side along the last axis."""
    ends = np.cumsum([p.value.shape[-1] for p in parts])
    cuts = [slice(end - p.value.shape[-1], end) for end, p in zip(ends, parts, strict=True)]
    return Rounded(
        np.concatenate([p.value for p in parts], axis=-1), np.concatenate([p.error for p in parts], axis=-1),
        parts[0].dtype, tuple((p, lambda d, e, c=c: (d[..., c], e[..., c])) for p, c in zip(parts, cuts, strict=True)),
    )  # fmt: skip


def reverse_gradients(of: Sequence[Rounded], leaves: Sequence[Rounded]) -> list[Pair]:
    """The derivative of the sum of all entries of `of` by each of `leaves`, and a bound on its error."""
    found: dict[int, Pair] = {}
    for result in of:
        _add(found, result, (np.ones_like(result.value), np.zeros_like(result.value)))
    for node in reversed(_topological_order(of)):
        if id(node) in found:
            for parent, pull in node.parents:
                _add(found, parent, pull(*found[id(node)]))
    zero = [np.zeros_like(leaf.value) for leaf in leaves]
    return [found.get(id(leaf), (z, z)) for leaf, z in zip(leaves, zero, strict=True)]


def _add(found: dict[int, Pair], node: Rounded, pair: Pair) -> None:
    d, e = pair
    if id(node) in found:
        before, bound = found[id(node)]
        e = bound + e + gamma(0, node.dtype) * (np.abs(before) + np.abs(d))
        d = before + d
    found[id(node)] = d, e + tiny(node.dtype)


def _topological_order(of: Sequence[Rounded]) -> list[Rounded]:
    """Everything that `of` was made from, operands before results."""
    order: list[Rounded] = []
    seen: set[int] = set()
    stack: list[tuple[Rounded, bool]] = [(node, False) for node in of]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(parent, False) for parent, _ in node.parents]
    return order
