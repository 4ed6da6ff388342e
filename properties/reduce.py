r"""Reduce a failing problem to smaller shapes than the palette holds.

Hypothesis has already shrunk within the palette.  Other shapes cost a compilation each, so they are tried only now,
greedily, a few dozen at most: the plainest value of one field after another, kept if the law still fails.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

from pcbench.errors import ImplementationError, ProblemError
from pcbench.laws.definition import Law, Measurement
from pcbench.problem.architectures import AnyProblem, ArchitectureProblem
from pcbench.worker.subject import Subject

ATTEMPTS = 48
SECONDS = 20.0
PLAIN: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("activation", ("linear", "tanh")),
    ("placement", ("before-weight",)),
    ("residual", (False,)),
    ("loss", ("mse",)),
    ("depth", (2, 3, 4)),
    ("batch", (1, 2)),
    ("width", (1, 2, 3)),
    ("output_dim", (1, 2)),
    ("input_dim", (1, 2)),
    ("dtype", ("float64",)),
    ("weight_law", ("gaussian",)),
    ("weight_scale", (1.0,)),
    ("data_law", ("gaussian",)),
    ("data_scale", (1.0,)),
    ("parameterisation", ("mupc",)),
    ("output_multiplier", (1.0,)),
    ("output_precision", (1.0,)),
    ("step_size", (0.1,)),
    ("steps", (1, 2)),
    ("seed", (0, 1, 2)),
)

PLAIN_ARCHITECTURE: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("activation", ("linear", "tanh")),
    ("loss", ("mse",)),
    ("softmax", (False,)),
    ("normalised", (False,)),
    ("latents", ("block",)),
    ("stages", (1,)),
    ("blocks", (0, 1)),
    ("heads", (1,)),
    ("batch", (1, 2)),
    ("width", (1, 2)),
    ("side", (2, 4)),
    ("tokens", (1, 2)),
    ("channels", (1,)),
    ("classes", (1, 2)),
    ("outputs", (1, 2)),
    *[(name, values) for name, values in PLAIN if name in (
        "dtype", "parameterisation", "output_multiplier", "output_precision", "step_size", "steps", "seed",
    )],
)  # fmt: skip


def reduce_problem(
    law: Law, subject: Subject, problem: AnyProblem, measure: Callable[[AnyProblem], Measurement]
) -> tuple[AnyProblem, Measurement] | None:
    """The smallest failing problem found from `problem`, with its measurement; None if nothing smaller fails."""
    found: list[tuple[AnyProblem, Measurement]] = []

    def current() -> AnyProblem:
        return found[-1][0] if found else problem

    ends = time.monotonic() + SECONDS
    for candidate in itertools.islice(_candidates(law, subject, current), ATTEMPTS):
        if time.monotonic() > ends:
            break
        try:
            measurement = measure(candidate)
        except ImplementationError:
            continue  # another defect than the one being reduced
        if measurement.failed:
            found.append((candidate, measurement))
    return found[-1] if found else None


def _candidates(law: Law, subject: Subject, current: Callable[[], AnyProblem]) -> Iterator[AnyProblem]:
    """Plainer problems of the law's domain, each made from the smallest failing one so far."""
    for name, values in PLAIN_ARCHITECTURE if isinstance(current(), ArchitectureProblem) else PLAIN:
        for value in values:
            now = current()
            if getattr(now, name) == value:
                break
            if isinstance(value, int) and not isinstance(value, bool) and value > getattr(now, name):
                break
            changes: dict[str, object] = {name: value}
            if value == "linear" and not isinstance(now, ArchitectureProblem):
                changes["placement"] = "before-weight"
            try:
                candidate = now.replace(**changes)
            except ProblemError:
                continue  # not a problem at all, such as one class with cross-entropy
            if law.domain.admits(candidate) and subject.refuses(candidate) is None:
                yield candidate
                if current() == candidate:
                    break
