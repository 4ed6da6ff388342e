r"""Measure which conventions an implementation follows, by trying each law of definition under all of them.

A convention says how to read an answer, and `pcbench.worker.subject` is the one place where answers are read.  So the
same implementation is asked the same questions under each combination of conventions that a law depends on, and those
under which the law holds on every problem are the ones that explain its numbers.  What one law has settled is taken for
granted by those after it.  A combination that holds by accident on one problem does not on the others, which differ in
depth, width and batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from pcbench.errors import ImplementationError
from pcbench.laws import REGISTRY
from pcbench.laws.measuring.compare import case
from pcbench.oracle import mlp as oracle
from pcbench.oracle.numerics import unit_roundoff
from pcbench.problem.mlp import Problem
from pcbench.protocol.implementation import CHOICES, Conventions
from pcbench.worker.subject import Subject, adapt_problem

STAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("energy.matches-definition", ("activity_order", "energy_reduction", "energy_factor")),
    ("energy.layer-energies-match-definition", ("layer_energy_order",)),
    ("gradient.activities-match-definition",
     ("activity_order", "activity_gradient_sign", "activity_gradient_reduction")),
    ("inference.step-follows-definition", ("activity_order", "step_size", "update_order")),
    ("gradient.weights-match-definition",
     ("activity_order", "gradient_sign", "gradient_reduction", "weight_layout")),
    ("inference.energy-reported-with-inference", ("energy_reduction", "energy_factor", "energy_lag")),
    ("gradient.reported-with-inference",
     ("gradient_sign", "gradient_reduction", "weight_layout", "gradient_point")),
)  # fmt: skip
"""Each law with the conventions that it depends on, in an order in which later ones can build upon earlier ones."""

_SIZES = ("D=3,N=4,L=3,K=2,B=2,steps=3", "D=2,N=5,L=4,K=3,B=5,steps=2", "D=4,N=3,L=5,K=2,B=3,steps=4")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one law says about the conventions it depends on.

    **Arguments:** `declared` values of these `fields`; `holding`, every combination under which the law holds on all
    problems, in the order of `fields`; `skipped`, why the law could not be asked, or an empty string; `problem` and
    `message` of the first failure under the declared ones, if they do not hold.
    """

    law: str
    fields: tuple[str, ...]
    declared: tuple[Any, ...]
    holding: tuple[tuple[Any, ...], ...] = ()
    skipped: str = ""
    problem: str = ""
    message: str = ""

    @property
    def as_declared(self) -> bool:
        """Whether what is declared explains the answers."""
        return self.declared in self.holding

    @property
    def determined(self) -> tuple[Any, ...] | None:
        """The values to go on with, or None if no combination explains the answers or several others do."""
        if self.as_declared:
            return self.declared
        return self.holding[0] if len(self.holding) == 1 else None


def measure_conventions(subject: Subject) -> Iterator[Finding]:
    """The findings of each stage, one after another, each taking for granted what those before it have settled.

    **Raises:** nothing for an answer that is wrong or missing: under that reading the law does not hold.
    """
    declared, capabilities, findings = subject.manifest.conventions, subject.manifest.capabilities, list[Finding]()
    problems = [adapt_problem(Problem.from_line(sizes), capabilities) for sizes in _SIZES]
    problems = [p for p in problems if subject.refuses(p) is None]
    for law, fields in STAGES:
        known = _determined_values(findings)
        left = tuple(f for f in fields if f not in known)
        findings.append(_stage(subject, law, left, replace(declared, **known), problems))
        yield findings[-1]


def apply_findings(declared: Conventions, findings: Sequence[Finding]) -> Conventions:
    """The declared conventions with what the findings have settled put in."""
    return replace(declared, **_determined_values(findings))


def _determined_values(findings: Sequence[Finding]) -> dict[str, Any]:
    """Every convention that these findings settle, with its value."""
    return {
        name: value
        for finding in findings
        if finding.determined is not None
        for name, value in zip(finding.fields, finding.determined, strict=True)
    }


def _stage(
    subject: Subject, law: str, fields: tuple[str, ...], base: Conventions, problems: Sequence[Problem]
) -> Finding:
    """One law under every combination of `fields`, the declared one first."""
    declared = tuple(getattr(base, f) for f in fields)
    reason = REGISTRY[law].not_applicable_reason(subject) or ("" if problems else "none of its problems is claimed")
    if reason:
        return Finding(law=law, fields=fields, declared=declared, skipped=reason)
    failure = _failure(subject, law, base, problems)
    holding = [] if failure else [declared]
    for values in _combinations(subject, fields, base, problems[0]):
        reading = replace(base, **dict(zip(fields, values, strict=True)))
        if values != declared and _failure(subject, law, reading, problems) is None:
            holding.append(values)
    problem, message = failure or ("", "")
    return Finding(law=law, fields=fields, declared=declared, holding=tuple(holding), problem=problem, message=message)


def _failure(subject: Subject, law: str, reading: Conventions, problems: Sequence[Problem]) -> tuple[str, str] | None:
    """The first problem on which the law does not hold under this reading, and how; None if it holds on all."""
    under = _read(subject, reading)
    for problem in problems:
        try:
            measurement = REGISTRY[law].measure(under, problem)
        except ImplementationError as error:
            return problem.line(), f"{type(error).__name__}: {error}"
        if measurement.inconclusive is not None:
            return problem.line(), f"inconclusive: {measurement.inconclusive}"
        if measurement.failed:
            return problem.line(), f"measured {measurement.error:.3g}, allowed {measurement.allowance:.3g}"
    return None


def _combinations(
    subject: Subject, fields: tuple[str, ...], base: Conventions, problem: Problem
) -> Iterator[tuple[Any, ...]]:
    """Every value of every field; the factor of the energy is that of the first problem under the other values."""
    rest = tuple(f for f in fields if f != "energy_factor")
    for values in itertools.product(*(CHOICES[f] for f in rest)):
        chosen = dict(zip(rest, values, strict=True))
        if "energy_factor" in fields:
            factor = _factor(_read(subject, replace(base, **chosen, energy_factor=1.0)), problem)
            if factor is None:
                continue
            chosen["energy_factor"] = factor
        yield tuple(chosen[f] for f in fields)


def _factor(subject: Subject, problem: Problem) -> float | None:
    """Reported energy over the oracle's, as a small fraction if rounding allows it; None if it cannot be asked.

    Taken at activities where the implementation can be asked, else with inference.
    """
    network, x, y = case(problem)
    z = problem.activities()
    try:
        if "energy-at-activities" in subject.offers:
            reported = subject.energy(network, x, y, z)
        else:
            reported = subject.infer(network, x, y, problem.steps, problem.step_size, z).energy
            there = problem.steps - subject.manifest.conventions.energy_lag
            z = subject.infer(network, x, y, there, problem.step_size, z).activities
    except ImplementationError:
        return None
    ratio = (reported or 0.0) / oracle.energy(network, x, y, z)
    near = float(Fraction(ratio).limit_denominator(64))
    rounding = 1e4 * unit_roundoff(problem.dtype) * abs(ratio)
    return (near if abs(near - ratio) <= rounding else ratio) or None


def _read(subject: Subject, reading: Conventions) -> Subject:
    """The same implementation, its answers read under other conventions."""
    other = Subject(subject.transport)
    other.manifest = replace(subject.manifest, conventions=reading)
    return other
