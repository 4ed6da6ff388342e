r"""Hypothesis strategies that draw problems on MLPs inside a law's domain, from a seeded palette.

What forces a compiled implementation to compile is the shape together with activation, placement, residual, loss and
dtype.  So a run draws whole *configurations* of these first, a palette shared by all laws, and examples draw from the
palette and from unlimited seeds, weights, scales, parameterisations, steps and step sizes.  A configuration outside a
law's domain is moved into it, field by field, rather than dropped.  Implementations for which shapes are free draw
sizes freely as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any

from hypothesis import strategies as st

from pcbench.laws.definition import Domain
from pcbench.laws.measuring import ladders
from pcbench.problem.mlp import Problem
from pcbench.problem.parameterisation import Exponents
from pcbench.protocol.implementation import Capabilities

STEP_SIZES = (0.1, 0.05, 0.02, 0.2)
EXPONENTS = (Exponents(output=0.5), Exponents(depth=1.0), Exponents(output=0.75, depth=0.25), Exponents(hidden=0.75))
SEEDS = 2**24 - 1
"""The largest seed drawn: Hypothesis is uniform over 24 bits, and prefers small numbers beyond."""
ENOUGH = 11
"""Distinct shapes that a law is judged on where each costs a compilation of its own."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What a compiled program depends on; fields as in `Problem`.

    `place` is where the palette has it: all laws judge it in the group of a run to which that number falls, so that
    one process compiles for it.
    """

    input_dim: int
    width: int
    depth: int
    output_dim: int
    batch: int
    activation: str = "linear"
    placement: str = "before-weight"
    residual: bool = False
    loss: str = "mse"
    dtype: str = "float64"
    place: int = field(default=0, compare=False)

    @property
    def size(self) -> tuple[int, ...]:
        """What shrinking makes small, most important first."""
        return (self.width * self.depth * self.batch, self.width, self.depth, self.input_dim, self.output_dim)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """`(D, N, L, K, B)`."""
        return self.input_dim, self.width, self.depth, self.output_dim, self.batch

    def problem(self, **values: Any) -> Problem:
        """A problem in this configuration; `values` are the other fields of `Problem`, or replace some."""
        return Problem(**{**{name: getattr(self, name) for name in _FIELDS}, **values})


_FIELDS = tuple(f.name for f in fields(Configuration) if f.compare)
_SIZES = {
    "input_dim": st.integers(1, 12),
    "width": st.integers(1, 24),
    "depth": st.integers(2, 9),
    "output_dim": st.integers(1, 5),
    "batch": st.integers(1, 6),
}


def palette(seed: int, capabilities: Capabilities, count: int) -> tuple[Configuration, ...]:
    """`count` configurations for a run, smallest first.

    The shapes always hold a width of 1, an odd prime, a depth of 2, a deep narrow and a wide shallow one; the settings
    are chosen greedily so that every pair of values that the implementation claims occurs together.
    """
    random = Random(f"palette {seed}")
    shapes = _general_shapes(random, count)
    chosen = sorted(_with_settings(random, shapes, capabilities), key=lambda c: c.size)
    return tuple(replace(c, place=place) for place, c in enumerate(chosen))


def _general_shapes(random: Random, count: int) -> list[dict[str, int]]:
    """Sizes by role first, then at random; most are deep enough for laws about distant layers."""

    def sizes(width: int, depth: int) -> dict[str, int]:
        return {
            "input_dim": random.randint(1, 12), "width": width, "depth": depth,
            "output_dim": random.randint(1, 5), "batch": random.randint(2, 6),
        }  # fmt: skip

    anchors = [
        sizes(random.choice((3, 5, 7, 11, 13)), random.randint(4, 6)),  # an odd prime
        sizes(1, random.randint(4, 5)),
        sizes(random.randint(48, 80), 2),  # wide and shallow
        sizes(random.randint(2, 5), random.randint(12, 16)),  # deep and narrow
        sizes(random.randint(2, 24), 2),
        sizes(random.randint(2, 24), 3),
    ]
    rest = [sizes(random.randint(2, 28), random.randint(4, 8)) for _ in range(max(0, count - len(anchors)))]
    return (anchors + rest)[:count]


def _with_settings(random: Random, shapes: list[dict[str, int]], capabilities: Capabilities) -> list[Configuration]:
    """Settings for each shape, greedily, so that every pair of values occurs; a quarter of them is in float32."""
    choices: dict[str, Sequence[Any]] = {
        "activation": capabilities.activations,
        "placement": capabilities.placements,
        "residual": (False, True) if capabilities.residual else (False,),
        "loss": capabilities.losses,
    }
    everything = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    random.shuffle(everything)
    covered: set[tuple[Any, ...]] = set()
    result = []
    for index, shape in enumerate(shapes):
        best = max(everything, key=lambda s: len(_pairs(s) - covered))
        covered |= _pairs(best)
        if len(everything) > 1:
            everything.remove(best)
        # float32 has a law that moves every configuration into it; elsewhere float64 shows more
        wanted = "float32" if index % 4 == 3 else "float64"
        dtype = wanted if wanted in capabilities.dtypes else capabilities.dtypes[0]
        result.append(Configuration(**shape, **best, dtype=dtype))
    return result


def _pairs(settings: dict[str, Any]) -> set[tuple[Any, ...]]:
    return set(itertools.combinations(settings.items(), 2))


def move_into(configuration: Configuration, domain: Domain, capabilities: Capabilities, index: int) -> Configuration:
    """The configuration nearest to this one that the law is about and the implementation claims.

    `index` spreads the choices where several values would do.
    """
    c = configuration

    def nearest(value: Any, wanted: Sequence[Any], claimed: Sequence[Any]) -> Any:
        both = [v for v in wanted if v in claimed]
        return value if value in both or not both else both[index % len(both)]

    activation = nearest(c.activation, domain.activations, capabilities.activations)
    placement = nearest(c.placement, domain.placements, capabilities.placements)
    loss = nearest(c.loss, domain.losses, capabilities.losses)
    if loss != c.loss and "linear" in domain.activations and "linear" in capabilities.activations:
        activation = "linear"  # where the moves of other laws end too, so that they share its programs
    residual = nearest(c.residual, domain.residual, (False, True) if capabilities.residual else (False,))
    depth = min(max(c.depth, domain.depth[0]), domain.depth[1])
    width, output_dim = c.width, max(c.output_dim, domain.output_dim, 2 if loss == "ce" else 1)
    if domain.scalar_output:
        output_dim = 1
    if domain.square:
        output_dim = min(output_dim, 3)
        width = max(width, output_dim + 1)
    if width * (depth - 1) > domain.hidden_units:
        depth = min(depth, max(2, 2 + index % 5, domain.depth[0]))
        width = min(width, domain.hidden_units // (depth - 1))
        output_dim = min(output_dim, max(1, width - 1)) if domain.square else output_dim
    return replace(
        c,
        activation=activation,
        placement="before-weight" if activation == "linear" else placement,
        loss=loss,
        residual=residual,
        dtype=nearest(c.dtype, domain.dtypes, capabilities.dtypes),
        depth=depth,
        width=width,
        output_dim=output_dim,
        batch=max(c.batch, domain.batch),
    )


def large_configurations(seed: int) -> tuple[Configuration, ...]:
    """The shapes of the limits: rungs of the run's ladders, which the laws of the limits compile anyway.

    Their order spreads the ladders over the groups of a run as `ladders.HOMES` does.
    """
    chosen = (
        [r for r in ladders.rungs(name, ladders.first_rung(name, seed)) if r.width >= 8 * r.depth][-3:]
        for name in ("width", "depth", "training", "nonlinear")
    )
    spread = (r for step in itertools.zip_longest(*chosen) for r in step if r is not None)
    return tuple(
        Configuration(
            input_dim=r.input_dim, width=r.width, depth=r.depth, output_dim=r.output_dim, batch=r.batch,
            residual=True, place=place,
        )
        for place, r in enumerate(spread)
    )  # fmt: skip


def configurations(domain: Domain, capabilities: Capabilities, seed: int, count: int) -> tuple[Configuration, ...]:
    """The palette of a run as one law sees it, smallest first.

    Configurations inside the law's domain come as they are, for they are compiled anyway; others are moved into it
    only until there are `ENOUGH` shapes.  A law that compiles programs of its own (`Domain.costly`) gets no more
    than that either.
    """
    if domain.large:
        return large_configurations(seed)
    base = palette(seed, capabilities, count)
    moved = [move_into(c, domain, capabilities, i) for i, c in enumerate(base)]
    inside = [m for c, m in zip(base, moved, strict=True) if c == m]
    chosen = inside[:ENOUGH] if domain.costly else inside
    for candidate in moved:
        if len({c.shape for c in chosen}) >= min(ENOUGH, count):
            break
        if candidate not in chosen:
            chosen.append(candidate)
    return tuple(sorted(chosen, key=lambda c: c.size))


def share(chosen: Sequence[Configuration], group: int, groups: int) -> tuple[Configuration, ...]:
    """Those of the `chosen` that a group of a run judges; one of them where none falls to it."""
    return tuple(c for c in chosen if c.place % groups == group) or (chosen[group % len(chosen)],)


def problems(domain: Domain, capabilities: Capabilities, chosen: Sequence[Configuration]) -> st.SearchStrategy[Problem]:
    """Problems of a law's domain that the implementation claims, in one of the `chosen` configurations.

    The first value of every choice is the plainest, so that shrinking ends at small sizes and plain settings.
    """
    free = capabilities.shapes == "free" and not domain.large
    return _problem(_configuration(domain, capabilities, chosen, free), tuple(_values(domain, capabilities).items()))


@st.composite
def _problem(
    draw: st.DrawFn,
    configuration: st.SearchStrategy[Configuration],
    values: tuple[tuple[str, st.SearchStrategy[Any]], ...],
) -> Problem:
    c = draw(configuration)
    return c.problem(**{name: draw(strategy) for name, strategy in values})


def _configuration(
    domain: Domain, capabilities: Capabilities, chosen: Sequence[Configuration], free: bool
) -> st.SearchStrategy[Configuration]:
    """One of the palette, or for half of the examples of an implementation with free shapes, sizes drawn at will."""
    palette_only = st.sampled_from(list(chosen))
    if not free:
        return palette_only

    @st.composite
    def loose(draw: st.DrawFn) -> Configuration:
        sizes = {name: draw(strategy) for name, strategy in _SIZES.items()}
        return move_into(replace(draw(palette_only), **sizes), domain, capabilities, draw(st.integers(0, 6)))

    return st.one_of(palette_only, loose())


def _values(domain: Domain, capabilities: Capabilities) -> dict[str, st.SearchStrategy[Any]]:
    """What a program need not be compiled for."""
    named = [p for p in ("mupc", "ntp", "sp") if p in domain.parameterisations]
    low, high = domain.steps
    if not capabilities.zero_steps:
        low, high = max(1, low), max(1, high)
    return {
        "parameterisation": st.sampled_from([*named, *(EXPONENTS if "general" in domain.parameterisations else ())]),
        "output_multiplier": st.sampled_from(domain.output_multipliers),
        "output_precision": st.sampled_from(domain.output_precisions if capabilities.precision else (1.0,)),
        "weight_law": st.sampled_from(domain.weight_laws),
        "weight_scale": st.sampled_from(domain.weight_scales),
        "data_law": st.sampled_from(domain.data_laws),
        "data_scale": st.sampled_from(domain.data_scales),
        "seed": st.integers(0, SEEDS),
        "steps": st.integers(low, high),
        "step_size": st.sampled_from(STEP_SIZES),
    }
