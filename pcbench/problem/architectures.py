r"""Test problems for CNNs and transformers, each written as one line of sizes, settings and a seed.

It draws weights and scalings, the one ingredient that reference, oracle and theory share; see
`pcbench.problem.architecture.Architecture` for the equations.  The tests pin the tables to literal numbers.

**Residual CNN** with \(N\) channels (the width), \(C\) input channels, \(P\) pixels left at the readout, and
\(L\) = blocks + stages + 1 layers of weights:

| name | first convolution | others | blocks | readout | variance of the weights |
| --- | --- | --- | --- | --- | --- |
| `sp` | 1 | 1 | \(g\) | \(1/\gamma\) | 1 / fan-in |
| `mupc` | \((9C)^{-1/2}\) | \((9N)^{-1/2}\) | \(g\,(9NL)^{-1/2}\) | \(N^{-1}P^{-1/2}/\gamma\) | 1 |
| `mupc-limits` | \((9C)^{-1/2}\) | \((9N)^{-1/2}\) | \(g\,(9NL)^{-1/2}\) | \((NP)^{-1}/\gamma\) | 1 |

`mupc-limits` is what the experiments of arXiv 2602.07697 compute.  They divide the readout by its whole fan-in, and
its \(P\) (784 in their images) makes the excess \(S - I\), by which PC differs from backpropagation, some \(P\) times
smaller than in an MLP of that width: both the energies and the gradients agree at every width, so the limit of wide
networks is trivial there.  `mupc` divides by the square root of \(P\), which does not grow with the width and is a
constant to the theory; the uppermost layer then adds \(1/N\) to the excess for any size of image, as in an MLP.
Measured for tanh, squared error, images of 32x32 pixels, one stage with one block (\(P = 256\)), N = 2, 8: relative
error of the gradient 0.022, 0.0051 under `mupc-limits` and 0.46, 0.17 under `mupc`.

**Transformer** with \(N\) the width, \(h\) heads of \(d = N/h\) units, and \(L\) residual branches in all:

| name | embedding | hidden weights | logits | \(\beta\) | head | std of the weights |
| --- | --- | --- | --- | --- | --- | --- |
| `sp` | 1 | 1 | \(d^{-1/2}\) | 1 | \(1/\gamma\) | fan-in\(^{-1/2}\) |
| `mupc` | 1 | fan-in\(^{-1/2}\) | \(d^{-1}\) | \(L^{-1/2}\) | \(N^{-1}/\gamma\) | 1 |
| `mupc-limits` | 1 | 1 | \(d^{-1}\) | \(2/L\) | \(N^{-1}/\gamma\) | 0.02 |

where the embedding adds that of the token and that of the position over \(\sqrt2\), or with continuous inputs of
\(D\) numbers a token, \(W x/\sqrt D\) in place of the former.

The hidden weights of `mupc-limits` have the same standard deviation at every width and no multiplier, so its branches
grow with the width (the factor \(N^{-1/2}\) stands in the branch of their code for `sp`).  Its head of standard
deviation 0.02 makes the excess \(S - I\) of order \(4\cdot10^{-4} L/N\), so energy and loss agree at every width; the
weight gradients do not, for the errors are as large beside the small activities as under `mupc`.  Departures from
their code: their embedding is not over \(\sqrt2\), their final normalisation is a layer of its own, and they multiply
the branches by \(1/n\) for \(n\) blocks under `sp` too.

Measured at certified equilibria (4 blocks, 4 heads, 16 tokens, 17 words, 8 sequences; N = 8, 32, 128):

| name | excess | loss over \(F^*\), less 1 | relative error of the gradient |
| --- | --- | --- | --- |
| `mupc` | 1.0, 0.18, 0.046 | 0.17, 0.031, 0.0077 | 1.3, 0.32, 0.075 |
| `mupc-limits` | 2.8e-4, 6.1e-5, 1.6e-5 | 4.9e-5, 1.0e-5, 2.6e-6 | 1.4, 0.31, 0.076 |
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pcbench.errors import ProblemError
from pcbench.problem import arrays
from pcbench.problem.architecture import KINDS, Architecture
from pcbench.problem.line import check_fields, format_line, parse_line
from pcbench.problem.mlp import Problem
from pcbench.problem.network import ACTIVATIONS, DTYPES, LOSSES, Activities

PARAMETERISATIONS = ("sp", "mupc", "mupc-limits")
_SIZES = {
    "cnn": ("side", "channels", "width", "stages", "blocks", "classes"),
    "transformer": ("tokens", "width", "blocks", "heads", "outputs"),
}
_OPTIONS = ("latents", "softmax", "normalised", "causal")
_LEAST = {"blocks": 0}
_EXPANSION = 4


@dataclass(frozen=True, kw_only=True)
class ArchitectureProblem:
    r"""A case that one line pins completely; sizes that its kind lacks stay 0.

    **Arguments:** `kind`; the sizes of `Architecture`; `batch`; `gain` of the residual branches of a CNN; `latents`,
    `softmax`, `normalised`, `causal` of a transformer; `output_multiplier` \(\gamma\); the rest as in `Problem`.

    **Raises:** `ProblemError` for a size or name that fits no network.
    """

    kind: str
    width: int
    blocks: int
    batch: int
    side: int = 0
    channels: int = 0
    stages: int = 0
    classes: int = 0
    tokens: int = 0
    heads: int = 0
    outputs: int = 0
    vocabulary: int = 0
    input_dim: int = 0
    latents: str = "block"
    softmax: bool = True
    normalised: bool = False
    causal: bool = True
    activation: str = "tanh"
    parameterisation: str = "mupc"
    gain: float = 1.0
    loss: str = "mse"
    output_precision: float = 1.0
    output_multiplier: float = 1.0
    dtype: str = "float64"
    seed: int = 0
    steps: int = 4
    step_size: float = 0.1

    def __post_init__(self) -> None:
        for name, allowed in (
            ("kind", KINDS),
            ("activation", ACTIVATIONS),
            ("parameterisation", PARAMETERISATIONS),
            ("loss", LOSSES),
            ("dtype", DTYPES),
            ("latents", ("block", "branch")),
        ):
            if getattr(self, name) not in allowed:
                raise ProblemError(f"{name}={getattr(self, name)!r}: needed one of {', '.join(allowed)}")
        for name in (*_SIZES[self.kind], "batch"):
            least = _LEAST.get(name, 1) if self.kind == "cnn" else 1
            if getattr(self, name) < least:
                raise ProblemError(f"{name}={getattr(self, name)}: needed {least} or more for a {self.kind}")
        if self.loss == "ce" and (self.classes or self.outputs) < 2:
            raise ProblemError(f"loss='ce' with {self.classes or self.outputs} classes: needed 2 or more")
        if self.kind == "cnn" and self.side % 2**self.stages:
            raise ProblemError(f"side={self.side} with {self.stages} poolings by 2: needed a multiple")
        if self.kind == "transformer":
            if self.width % self.heads:
                raise ProblemError(f"width={self.width} with {self.heads} heads: needed a multiple of {self.heads}")
            if (self.vocabulary > 0) == (self.input_dim > 0):
                raise ProblemError(f"vocabulary={self.vocabulary}, input_dim={self.input_dim}: needed one of them")

    def replace(self, **changes: Any) -> ArchitectureProblem:
        """A copy with some fields changed, validated anew."""
        return replace(self, **changes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes that this kind has, and the batch."""
        return (*(getattr(self, name) for name in _SIZES[self.kind]), self.vocabulary, self.input_dim, self.batch)

    # ---- text -----------------------------------------------------------------------------------------------------

    def line(self) -> str:
        """The problem as one word for a shell, `kind=cnn,width=3,side=4,...`; defaults are left out."""
        return format_line(self)

    def to_json(self) -> dict[str, Any]:
        """Every field that this kind has, as plain JSON data."""
        unused = {name for kind, sizes in _SIZES.items() if kind != self.kind for name in sizes} - {*_SIZES[self.kind]}
        unused |= {"vocabulary", "input_dim", *_OPTIONS} if self.kind == "cnn" else {"gain"}
        return {name: value for name, value in asdict(self).items() if name not in unused}

    @classmethod
    def from_line(cls, text: str) -> ArchitectureProblem:
        """The inverse of `line`.

        **Raises:** `ProblemError` naming the part that is not understood.
        """
        values = parse_line(cls, text)
        check_fields(cls, values)
        return cls(**values)

    # ---- arrays ---------------------------------------------------------------------------------------------------

    def architecture(self) -> Architecture:
        """The network of this problem."""
        names = _SIZES[self.kind] + tuple(n for n in ("vocabulary", "input_dim") if getattr(self, n))
        parameters, scalings = self._cnn() if self.kind == "cnn" else self._transformer()
        options = _OPTIONS if self.kind == "transformer" else ()
        return Architecture(
            kind=self.kind,
            sizes={name: getattr(self, name) for name in names},
            options={name: getattr(self, name) for name in options},
            parameters=tuple(parameters),
            scalings=tuple(scalings),
            activation=self.activation,
            loss=self.loss,
            precision=self.output_precision,
        )

    def input(self) -> np.ndarray:
        """The clamped input, `(batch, *input_shape)`: Gaussian, or uniform integers below `vocabulary`."""
        shape = (self.batch, *self.architecture().input_shape)
        if self.vocabulary:
            drawn = (arrays.uniform(self.seed, "input", *shape) * self.vocabulary).astype(np.int64)
            return np.minimum(drawn, self.vocabulary - 1)
        return np.asarray(arrays.normal(self.seed, "input", *shape), self.dtype)

    def target(self) -> np.ndarray:
        """The clamped target, `(batch, *output_shape)`: Gaussian, or one-hot along the last axis for `ce`."""
        shape = (self.batch, *self.architecture().output_shape)
        if self.loss == "ce":
            rows = arrays.one_hot(self.seed, "target", math.prod(shape[:-1]), shape[-1])
            return np.asarray(rows.reshape(shape), self.dtype)
        return np.asarray(arrays.normal(self.seed, "target", *shape), self.dtype)

    def activities(self, role: str = "activities") -> Activities:
        """Random Gaussian activities."""
        shapes = enumerate(self.architecture().activity_shapes, start=1)
        return [np.asarray(arrays.normal(self.seed, f"{role}/{l}", self.batch, *s), self.dtype) for l, s in shapes]

    def _weight(self, role: str, *shape: int, sp: float | None = None) -> np.ndarray:
        """Gaussian weights of the parameterisation; `sp` is the standard deviation under `sp` if not fan-in's."""
        small = 0.02 if self.kind == "transformer" else 1.0
        standard = 1 / math.sqrt(math.prod(shape[1:])) if sp is None else sp
        std = {"sp": standard, "mupc": 1.0, "mupc-limits": small}[self.parameterisation]
        return np.asarray(std * arrays.normal(self.seed, f"weights/{role}", *shape), self.dtype)

    def _cnn(self) -> tuple[list[Any], list[Any]]:
        pixels, depth = (self.side // 2**self.stages) ** 2, self.stages * (self.blocks + 1) + 1
        standard, parameters, scalings = self.parameterisation == "sp", [], []
        for stage in range(self.stages):
            for block in range(self.blocks + 1):
                below = self.width if stage or block else self.channels
                branch = self.gain if block else 1.0
                mup = branch / math.sqrt(9 * below * (depth if block else 1))
                parameters.append(self._weight(str(len(parameters) + 1), self.width, 3, 3, below))
                scalings.append(branch if standard else mup)
            parameters.append(())
            scalings.append(())
        last = {"sp": 1.0, "mupc": 1 / (self.width * math.sqrt(pixels)), "mupc-limits": 1 / (self.width * pixels)}
        parameters.append(self._weight(str(len(parameters) + 1), self.classes, self.width * pixels))
        scalings.append(last[self.parameterisation] / self.output_multiplier)
        return parameters, scalings

    def _transformer(self) -> tuple[list[Any], list[Any]]:
        N, units, fan_in = self.width, self.width // self.heads, self.vocabulary or self.input_dim
        token = self._weight("token", *((fan_in, N) if self.vocabulary else (N, fan_in)), sp=1.0)
        parameters: list[Any] = [{"token": token, "position": self._weight("position", self.tokens, N, sp=1.0)}]
        for b in range(self.blocks):
            attention = {
                "mixing": self._weight(f"block {b}/mixing", 3 * N, N),
                "joining": self._weight(f"block {b}/joining", N, N),
            }
            mlp = {
                "widening": self._weight(f"block {b}/widening", _EXPANSION * N, N),
                "narrowing": self._weight(f"block {b}/narrowing", N, _EXPANSION * N),
            }
            parameters += [attention, mlp] if self.latents == "branch" else [attention | mlp]
        parameters.append(self._weight("head", self.outputs, N))
        narrow, wide = 1 / math.sqrt(N), 1 / math.sqrt(_EXPANSION * N)
        numbers = {
            "sp": {"narrow": 1.0, "wide": 1.0, "logit": 1 / math.sqrt(units), "branch": 1.0},
            "mupc": {"narrow": narrow, "wide": wide, "logit": 1 / units, "branch": 1 / math.sqrt(2 * self.blocks)},
            "mupc-limits": {"narrow": 1.0, "wide": 1.0, "logit": 1 / units, "branch": 1 / self.blocks},
        }[self.parameterisation]
        last = (1.0 if self.parameterisation == "sp" else 1 / N) / self.output_multiplier
        return parameters, [1 / math.sqrt(fan_in), *[numbers] * (len(parameters) - 2), last]


AnyProblem = Problem | ArchitectureProblem
"""What a law may be judged on."""


def problem_from_line(text: str) -> AnyProblem:
    """The problem that a line means: one beyond MLPs if it names its kind.

    **Raises:** `ProblemError` naming the part that is not understood.
    """
    named = any(part.strip().startswith("kind=") for part in text.split(","))
    return ArchitectureProblem.from_line(text) if named else Problem.from_line(text)
