r"""Layer scalings, initial standard deviations and learning-rate rules of the parameterisations of a PCN.

A parameterisation says by which scalar \(a_l\) each weight matrix is multiplied, from which variance its entries
are drawn, and how the learning rate follows width and depth.  Three have names, any other is given by `Exponents`.

| name | \(a_1\) | \(a_l\), hidden | \(a_L\) | variance of the weights |
| --- | --- | --- | --- | --- |
| `sp` (standard) | 1 | 1 | \(1/\gamma\) | 1 / fan-in |
| `ntp` (neural tangent) | \(D^{-1/2}\) | \((N L)^{-1/2}\) residual, \(N^{-1/2}\) plain | \(N^{-1/2}/\gamma\) | 1 |
| `mupc` (Depth-muP for PC) | \(D^{-1/2}\) | \((N L)^{-1/2}\) residual, \(N^{-1/2}\) plain | \(N^{-1}/\gamma\) | 1 |

This is the one ingredient that the reference, the oracle and the theory share; the tests pin it to literal numbers.

**References:** Innocenti, Achour and Buckley 2025 (arXiv 2505.13124) for `mupc`; Innocenti, Achour and Bogacz 2026
(arXiv 2602.07697); Yang and Hu 2021 (arXiv 2011.14522) for exponents in width.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from pcbench.errors import ProblemError

NAMED = ("sp", "ntp", "mupc")


@dataclass(frozen=True, kw_only=True)
class Exponents:
    r"""A parameterisation by its exponents in width \(N\) and depth \(L\).

    The multipliers are \(a_1 = N^{-\mathrm{input}} D^{-1/2}\), \(a_l = N^{-\mathrm{hidden}} L^{-\mathrm{depth}}\) for
    hidden layers (the factor in \(L\) only where there are residual connections) and
    \(a_L = N^{-\mathrm{output}}/\gamma\).  Entries of layer \(l\) have standard deviation \(N^{-b}\) with
    \(b\) = `input_init`, `hidden_init`, `output_init`, and a step of gradient descent is
    \(\eta\, N^{-\mathrm{rate}}\).  The defaults are `mupc` with gradient descent.
    """

    input: float = 0.0
    hidden: float = 0.5
    output: float = 1.0
    depth: float = 0.5
    input_init: float = 0.0
    hidden_init: float = 0.0
    output_init: float = 0.0
    rate: float = -1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ProblemError(f"parameterisation exponent {field.name}={value!r}: needed a finite number")
            object.__setattr__(self, field.name, float(value))

    def line(self) -> str:
        """The exponents that differ from the defaults, as `general:output=0.5:depth=0`."""
        plain = Exponents()
        parts = [f"{k}={v!r}" for k, v in asdict(self).items() if v != getattr(plain, k)]
        return ":".join(["general", *parts])

    @classmethod
    def from_line(cls, text: str) -> Exponents:
        """The inverse of `line`.

        **Raises:** `ProblemError` for an exponent that does not exist, is given twice or is no number.
        """
        head, *parts = text.split(":")
        known = [field.name for field in fields(cls)]
        if head != "general":
            raise ProblemError(
                f"parameterisation {text!r}: needed general:exponent=value, or one of {', '.join(NAMED)}"
            )
        values: dict[str, float] = {}
        for part in parts:
            name, _, value = part.partition("=")
            if name not in known:
                raise ProblemError(f"parameterisation {text!r}: exponent {name!r} is not one of {', '.join(known)}")
            if name in values:
                raise ProblemError(f"parameterisation {text!r}: exponent {name} is given twice, give it once")
            try:
                values[name] = float(value)
            except ValueError:
                raise ProblemError(f"parameterisation {text!r}: {name} needs a number, got {value!r}") from None
        return cls(**values)


def layer_scalings(
    parameterisation: str | Exponents,
    *,
    input_dim: int,
    width: int,
    depth: int,
    residual: bool,
    output_multiplier: float = 1.0,
) -> tuple[float, ...]:
    r"""The scalars \(a_1, \dots, a_L\) in front of the weight matrices; the last includes \(1/\gamma\).

    **Arguments:** `depth` counts weight matrices, skips are on the layers \(2 \dots L-1\);
    `output_multiplier` is \(\gamma\), which divides the output.

    **Raises:** `ProblemError` for an unknown name.
    """
    branch = float(width * depth) if residual else float(width)
    if isinstance(parameterisation, Exponents):
        e = parameterisation
        first = width**-e.input / math.sqrt(input_dim)
        hidden = width**-e.hidden * (depth**-e.depth if residual else 1.0)
        last = width**-e.output
    elif parameterisation == "sp":
        first = hidden = last = 1.0
    elif parameterisation == "ntp":
        first, hidden, last = 1 / math.sqrt(input_dim), 1 / math.sqrt(branch), 1 / math.sqrt(width)
    elif parameterisation == "mupc":
        first, hidden, last = 1 / math.sqrt(input_dim), 1 / math.sqrt(branch), 1 / width
    else:
        raise ProblemError(f"parameterisation={parameterisation!r}: needed one of {', '.join(NAMED)} or Exponents(...)")
    return (first, *([hidden] * (depth - 2)), last / output_multiplier)


def initial_std(parameterisation: str | Exponents, *, layer: int, depth: int, fan_in: int, width: int) -> float:
    r"""The standard deviation of the entries of \(W_l\) at initialisation, `layer` counted from 1."""
    if isinstance(parameterisation, Exponents):
        e = parameterisation
        exponent = e.input_init if layer == 1 else e.output_init if layer == depth else e.hidden_init
        return float(width**-exponent)
    return 1 / math.sqrt(fan_in) if parameterisation == "sp" else 1.0


def learning_rate(
    parameterisation: str | Exponents,
    base: float,
    *,
    width: int,
    depth: int,
    residual: bool,
    output_multiplier: float = 1.0,
    optimiser: str = "sgd",
) -> float:
    r"""The learning rate at this width and depth for a rate `base` that is meant to transfer.

    Gradient descent: \(\eta\) under `sp` and `ntp`, \(\eta\gamma^2 N\) under `mupc`, \(\eta N^{-c}\) under exponents.
    Adam: \(\eta\) under `sp`, \(\eta/\sqrt{N L}\) residual and \(\eta/\sqrt{N}\) plain otherwise.

    **References:** arXiv 2602.07697, the authors' experiments.
    """
    if optimiser == "adam":
        if parameterisation == "sp":
            return base
        return base / math.sqrt(width * depth if residual else width)
    if optimiser != "sgd":
        raise ProblemError(f"optimiser={optimiser!r}: needed 'sgd' or 'adam'")
    if isinstance(parameterisation, Exponents):
        return base * width**-parameterisation.rate
    return base * output_multiplier**2 * width if parameterisation == "mupc" else base
