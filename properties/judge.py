r"""Judge one law on one group of examples with Hypothesis.

Each call makes a fresh test function: `@given` methods inherited by several implementations trip Hypothesis's
`differing_executors` health check.  Examples that decide nothing are rejected, so that the number of valid examples
is the number that counts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, reject, seed, settings, target
from hypothesis.errors import Flaky, Unsatisfiable
from pcbench.properties import architectures as architecture_strategies
from pcbench.properties import mlp as strategies
from pcbench.properties.reduce import reduce_problem

from pcbench.errors import ContractError, ImplementationError, NotFiniteError, TheoryError, WorkerTimeoutError
from pcbench.laws.definition import Law, Measurement
from pcbench.laws.measuring import ladders
from pcbench.laws.measuring.compare import leaves_range
from pcbench.problem.architectures import AnyProblem
from pcbench.report.evidence import Evidence, Verdict, Worst, merge
from pcbench.report.profiles import Profile
from pcbench.worker.subject import Subject

MOST_INCONCLUSIVE = 4
"""Inconclusive examples tolerated per example wanted, before a group gives up."""


class LawBrokenError(AssertionError):
    """A law does not hold on a problem; carries what was measured."""

    def __init__(self, law: Law, problem: AnyProblem, worst: Worst, message: str) -> None:
        super().__init__(f"{law.id}: {message}\n  on {problem.line()}")
        self.worst, self.message, self.problem = worst, message, problem


class Tally:
    """What the examples of one group have shown so far."""

    def __init__(self) -> None:
        self.examples = 0
        self.inconclusive = 0
        self.why: dict[str, int] = {}
        self.shapes: set[tuple[int, ...]] = set()
        self.worst = Worst()
        self.failure: LawBrokenError | None = None
        self.stopped: ImplementationError | None = None
        self.stopped_at = ""

    def add(self, problem: AnyProblem, measurement: Measurement) -> None:
        """Count one measurement that decided something, or all samples of an experiment."""
        self.examples += measurement.samples
        self.shapes |= set(measurement.shapes) or {problem.shape}
        if measurement.margin > self.worst.margin or not self.worst.problem:
            self.worst = as_worst(problem, measurement)


def as_worst(problem: AnyProblem, measurement: Measurement) -> Worst:
    """A measurement and its problem as plain data, for a report."""
    details = {k: v if isinstance(v, (int, float, str)) else str(v) for k, v in measurement.details.items()}
    return Worst(
        margin=measurement.margin,
        error=measurement.error,
        allowance=measurement.allowance,
        problem=problem.line(),
        details=details,
    )


def measure_problem(law: Law, subject: Subject, problem: AnyProblem) -> Measurement:
    """What the law measures on one problem; a broken contract is an infinite error.

    **Raises:** `ImplementationError` if the implementation raised, crashed or timed out.
    """
    if subject.fresh_for_every_problem:
        subject.forget()
    try:
        return law.measure(subject, problem)
    except ContractError as error:
        if isinstance(error, NotFiniteError) and leaves_range(problem):
            return Measurement(error=0.0, allowance=1.0, inconclusive="inference leaves the range of the dtype")
        return Measurement(error=float("inf"), allowance=0.0, details={"contract": str(error)})
    except TheoryError as error:  # a closed form refuses what it cannot describe, such as diverged activities
        return Measurement(error=0.0, allowance=1.0, inconclusive=f"no closed form: {error}"[:80])


def judge_group(
    law: Law, subject: Subject, profile: Profile, run_seed: int, group: int, first: AnyProblem | None = None
) -> Evidence:
    """The evidence of one group of examples of a law that is applicable; never raises for what an implementation does.

    `first` is a problem to measure before any is drawn, in the first group, one that the law is about and the manifest
    covers; laws of a limit draw their own.
    """
    began = time.perf_counter()
    if law.ladder:
        return _experiment(law, subject, profile, run_seed, group)
    drawing, tally = _drawing(law), Tally()
    if first is not None and group == 0:
        _measure_first(law, subject, first, tally)
        if tally.failure is not None or tally.stopped is not None:
            return _evidence(law, subject, profile, group, tally, time.perf_counter() - began)
    chosen = drawing.configurations(law.domain, subject.manifest.capabilities, run_seed, profile.shapes)
    test = _property(law, subject, profile, run_seed, group, drawing.share(chosen, group, profile.groups), tally)
    try:
        test()
    except LawBrokenError as broken:
        tally.failure = broken
    except Unsatisfiable:
        pass  # every example was inconclusive, which the tally says
    except Flaky:
        # The law failed and then held on the same problem: the implementation has state or randomness of its own.
        if tally.failure is None and tally.stopped is None:
            raise
    except ImplementationError as error:
        tally.stopped = error
    return _evidence(law, subject, profile, group, tally, time.perf_counter() - began)


def _measure_first(law: Law, subject: Subject, problem: AnyProblem, tally: Tally) -> None:
    """Put what a law measures on a given problem into the tally, what stops it included."""
    try:
        measurement = measure_problem(law, subject, problem)
    except ImplementationError as error:
        tally.stopped, tally.stopped_at = error, problem.line()
        return
    if measurement.inconclusive is not None:
        tally.inconclusive, tally.why = 1, {measurement.inconclusive: 1}
    else:
        tally.add(problem, measurement)
    if measurement.failed:
        tally.failure = LawBrokenError(law, problem, as_worst(problem, measurement), describe(measurement))


def _drawing(law: Law) -> Any:
    """The module that draws the problems of a law."""
    return strategies if law.domain.kind == "mlp" else architecture_strategies


def _experiment(law: Law, subject: Subject, profile: Profile, run_seed: int, group: int) -> Evidence:
    """The one judgement of a law of a limit, which draws networks of its own; it falls to one group of the run."""
    home = ladders.home_group(law.ladder, profile.groups)
    if group != home:
        return Evidence(law=law.id, group=group, outcome="not-applicable", message=f"judged in group {home + 1}")
    began, tally = time.perf_counter(), Tally()
    problem = ladders.first_rung(law.ladder, run_seed, subject.manifest.capabilities.activations)
    _measure_first(law, subject, problem, tally)
    return _evidence(law, subject, replace(profile, shrink=False), group, tally, time.perf_counter() - began)


def _property(
    law: Law,
    subject: Subject,
    profile: Profile,
    run_seed: int,
    group: int,
    chosen: Sequence[Any],
    tally: Tally,
) -> Callable[[], None]:
    """A fresh Hypothesis test of one law on one group."""
    share = profile.examples // profile.groups + (1 if group < profile.examples % profile.groups else 0)
    phases = (Phase.generate, Phase.target, Phase.shrink) if profile.shrink else (Phase.generate, Phase.target)
    digest = hashlib.sha256(f"{run_seed} {law.id} {group}".encode()).digest()

    @seed(int.from_bytes(digest[:8], "big"))
    @settings(
        max_examples=share,
        database=None,  # a report is repeatable from its seed alone
        deadline=None,  # the first call of a shape compiles
        phases=phases,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=[
            HealthCheck.too_slow,  # compilation
            HealthCheck.filter_too_much,  # inconclusive examples are rejected, counted and limited by PATIENCE
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )
    @given(_drawing(law).problems(law.domain, subject.manifest.capabilities, chosen))
    def property_of_law(problem: AnyProblem) -> None:
        if tally.stopped is not None:  # shrinking a crash would restart the implementation for every attempt
            raise tally.stopped
        if tally.failure is None and tally.inconclusive > MOST_INCONCLUSIVE * share:
            return
        if subject.refuses(problem):
            reject()
        try:
            measurement = measure_problem(law, subject, problem)
        except ImplementationError as error:
            tally.stopped, tally.stopped_at = error, problem.line()
            raise
        if measurement.inconclusive is not None:
            if tally.failure is None:
                tally.inconclusive += 1
                tally.why[measurement.inconclusive] = tally.why.get(measurement.inconclusive, 0) + 1
            reject()
        if not measurement.failed:
            if tally.failure is None:
                tally.add(problem, measurement)
            target(min(measurement.margin, 1e3), label="margin")
            return
        if tally.failure is None:
            tally.add(problem, measurement)
        tally.failure = LawBrokenError(law, problem, as_worst(problem, measurement), describe(measurement))
        raise tally.failure

    return property_of_law


def describe(measurement: Measurement) -> str:
    """A measurement as a clause of a sentence."""
    if "contract" in measurement.details:
        return str(measurement.details["contract"])
    details = ", ".join(f"{k} {_value_text(v)}" for k, v in measurement.details.items())
    text = f"error {_value_text(measurement.error)}, allowed {_value_text(measurement.allowance)}"
    return f"{text} ({details})" if details else text


def _value_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _evidence(law: Law, subject: Subject, profile: Profile, group: int, tally: Tally, seconds: float) -> Evidence:
    outcome, message, stderr, failure = "pass", "", "", None
    if tally.failure is not None:  # first: no error in making it smaller takes back what was measured
        outcome, failure, message = "fail", tally.failure.worst, tally.failure.message
        if profile.shrink and tally.stopped is None:
            smaller = reduce_problem(law, subject, tally.failure.problem, lambda p: measure_problem(law, subject, p))
            if smaller is not None:
                failure, message = as_worst(*smaller), describe(smaller[1])
    elif tally.stopped is not None:
        outcome = "timeout" if isinstance(tally.stopped, WorkerTimeoutError) else "error"
        message = str(tally.stopped)
        failure = Worst(problem=tally.stopped_at)
        stderr = getattr(tally.stopped, "stderr", "") or getattr(tally.stopped, "traceback", "")
    elif not tally.examples:
        outcome, message = "inconclusive", "; ".join(sorted(tally.why)) or "no problem of its domain is claimed"
    return Evidence(
        law=law.id,
        group=group,
        outcome=outcome,
        examples=tally.examples,
        inconclusive=tally.inconclusive,
        why=tally.why,
        shapes=tuple(sorted(tally.shapes)),
        worst=tally.worst,
        failure=failure,
        message=message,
        stderr=stderr[-4000:],
        seconds=seconds,
    )


def property_test(law: Law, subject: Subject, profile: Profile, run_seed: int) -> Callable[[], Verdict]:
    """A fresh function that judges one law over all groups, for pytest; it returns the verdict."""

    def test() -> Verdict:
        parts = [judge_group(law, subject, profile, run_seed, group) for group in range(profile.groups)]
        return merge(law.id, parts, profile.needed_examples(law.ladder))

    test.__name__ = law.id
    return test
