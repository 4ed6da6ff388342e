r"""Hypothesis strategies for problems on CNNs and transformers.

As `pcbench.properties.mlp` does for MLPs.  A palette takes the settings that change the equations in turn (softmax or
linear attention, normalised or not, causal or not, activities for each block or each branch), so that a run sees all
of them whatever its seed; sizes are drawn.  Implementations for which shapes are free draw sizes freely as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st
from pcbench.properties.mlp import SEEDS

from pcbench.laws.definition import Domain
from pcbench.problem.architectures import ArchitectureProblem
from pcbench.protocol.implementation import Capabilities

STEP_SIZES = (0.1, 0.05, 0.02)
GAINS = (1.0, 5 / 3)
SMALLEST = 4
"""Networks in any palette: each setting occurs, and half of the pairs of them."""


def configurations(
    domain: Domain, capabilities: Capabilities, seed: int, count: int
) -> tuple[ArchitectureProblem, ...]:
    """The palette of a run as one law sees it: a quarter as many networks as an MLP's has, each larger than those."""
    random = Random(f"architectures {domain.kind} {seed}")
    offset = random.randrange(8)
    draw = _cnn if domain.kind == "cnn" else _transformer
    return tuple(
        draw(random, index, offset, **_settings(domain, capabilities, index, offset))
        for index in range(max(SMALLEST, count // 4))
    )


def share(chosen: Sequence[ArchitectureProblem], group: int, groups: int) -> tuple[ArchitectureProblem, ...]:
    """Those of the `chosen` that a group of a run judges; all laws of a kind have one palette, so it is the same."""
    return tuple(chosen[group::groups]) or (chosen[group % len(chosen)],)


def _settings(domain: Domain, capabilities: Capabilities, index: int, offset: int) -> dict[str, Any]:
    """What a program depends on beside sizes; the fourth network is in float32 where the law and the claim allow it."""

    def pick(wanted: Sequence[str], claimed: Sequence[str], number: int) -> str:
        both = [v for v in wanted if v in claimed]
        return both[number % len(both)]

    dtypes = [d for d in domain.dtypes if d in capabilities.dtypes]
    return {
        "activation": pick(domain.activations, capabilities.activations, index + offset),
        "loss": pick(domain.losses, capabilities.losses, index // 2),
        "dtype": "float32" if "float32" in dtypes and (index % 4 == 3 or len(dtypes) == 1) else dtypes[0],
    }


def _cnn(random: Random, index: int, offset: int, **settings: Any) -> ArchitectureProblem:
    stages = 2 if index % 4 == 2 else 1
    return ArchitectureProblem(
        kind="cnn",
        side=4 if stages == 2 else 2 * random.randint(1, 2),
        channels=random.randint(1, 3),
        width=random.randint(1, 5),
        stages=stages,
        blocks=(1, 2, 1, random.randint(0, 3))[index % 4],
        classes=random.randint(2, 4) if settings["loss"] == "ce" else random.randint(1, 4),
        batch=random.randint(2, 3),
        **settings,
    )


def _transformer(random: Random, index: int, offset: int, **settings: Any) -> ArchitectureProblem:
    heads, words = random.randint(1, 3), random.randint(2, 6)
    return ArchitectureProblem(
        kind="transformer",
        tokens=random.randint(2, 4),
        width=heads * random.randint(2, 3),
        blocks=1 + (index + offset) % 2,
        heads=heads,
        outputs=random.randint(2, 4) if settings["loss"] == "ce" else random.randint(1, 4),
        batch=random.randint(2, 3),
        softmax=index % 2 == 0,
        normalised=index % 4 in (1, 2),
        causal=(index // 2 + offset) % 2 == 0,
        latents="branch" if (index + index // 2 + offset // 2) % 2 else "block",
        **({"vocabulary": words} if (index // 2 + offset // 4) % 2 else {"input_dim": words}),
        **settings,
    )


def problems(
    domain: Domain, capabilities: Capabilities, chosen: Sequence[ArchitectureProblem]
) -> st.SearchStrategy[ArchitectureProblem]:
    """Problems of a law's domain that the implementation claims, on one of the `chosen` networks or sizes near it."""
    return _problem(domain, capabilities, tuple(chosen))


@st.composite
def _problem(
    draw: st.DrawFn, domain: Domain, capabilities: Capabilities, chosen: tuple[ArchitectureProblem, ...]
) -> ArchitectureProblem:
    base = draw(st.sampled_from(chosen))
    if capabilities.shapes == "free" and draw(st.booleans()):
        base = base.replace(**_sizes(draw, base))
    values: dict[str, Any] = {
        "parameterisation": draw(st.sampled_from(domain.parameterisations)),
        "output_precision": draw(st.sampled_from(domain.output_precisions if capabilities.precision else (1.0,))),
        "output_multiplier": draw(st.sampled_from(domain.output_multipliers)),
        "seed": draw(st.integers(0, SEEDS)),
        "steps": draw(st.integers(*domain.steps)),
        "step_size": draw(st.sampled_from(STEP_SIZES)),
    }
    if base.kind == "cnn":
        values["gain"] = draw(st.sampled_from(GAINS))
    return base.replace(**values)


def _sizes(draw: st.DrawFn, base: ArchitectureProblem) -> dict[str, int]:
    """Other sizes for the same settings."""
    least = 2 if base.loss == "ce" else 1
    if base.kind == "cnn":
        sizes = {"width": draw(st.integers(1, 6)), "blocks": draw(st.integers(0, 3))}
        return {**sizes, "classes": draw(st.integers(least, 5)), "channels": draw(st.integers(1, 3))}
    heads = draw(st.integers(1, 3))
    sizes = {"heads": heads, "width": heads * draw(st.integers(2, 4)), "tokens": draw(st.integers(1, 5))}
    return {**sizes, "outputs": draw(st.integers(least, 5)), "blocks": draw(st.integers(1, 2))}
