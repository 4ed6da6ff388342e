r"""Run interleaved pairs of fresh processes until every speed row is decided.

Calibration first: pairs of the base with itself say what this host can see.  Then blocks of two pairs, A B B A or
B A A B by the toss of a seeded coin, so that a steady drift cancels and swapping the sides of equal code changes
nothing, which is all that the test assumes.  All tasks take turns between two looks; one whose rows are all decided
takes none any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pcbench.errors import ImplementationError
from pcbench.gate import effect
from pcbench.gate.outcome import Comparison
from pcbench.gate.rows import Chosen, Row
from pcbench.gate.signs import Decision, Plan, constant, decide, decide_exactly, differences

Sample = Mapping[str, float]
Measure = Callable[[str, str], Sample]
"""What one fresh process of a side (`base` or `head`) measures of a task: metric -> value.

**Raises:** `ImplementationError` if there is no value to be had.
"""
HOPELESS = 2.0
"""A row is given up after calibration if what the host can see is this many times what is looked for."""


@dataclass
class _Task:
    """The processes of one task so far: `order` of all, and the pairs."""

    order: list[tuple[str, Sample]] = field(default_factory=list)
    calibration: list[tuple[Sample, Sample]] = field(default_factory=list)
    pairs: list[tuple[Sample, Sample]] = field(default_factory=list)
    failure: str = ""


def compare_sides(
    measure: Measure,
    chosen: Chosen,
    plan: Plan,
    *,
    seed: int,
    calibration: int = 4,
    tell: Callable[[str], None] = lambda text: None,
    step: Callable[[str], None] = lambda text: None,
) -> list[Comparison]:
    """The comparison of every row of `chosen`.

    **Arguments:** `measure` one process; `calibration`, pairs of the base with itself; `tell` is given sentences for a
    reader, `step` a phrase after every process.
    """
    random = np.random.default_rng(seed)
    state = {name: _Task() for name in chosen.tasks}
    decided: dict[str, Comparison] = {}

    def measure_one(task: str, side: str) -> Sample:
        sample = measure(side, task)
        state[task].order.append((side, sample))
        step(f"{task}, {side}")
        return sample

    def attempt(task: str, work: Callable[[], None]) -> None:
        try:
            work()
        except ImplementationError as error:
            state[task].failure = str(error)
            for row in chosen.rows_of(task):
                decided.setdefault(row.name, _comparison(row, "error", str(error), state[task]))

    def calibrate(task: str) -> None:
        for _ in range(calibration):
            state[task].calibration.append((measure_one(task, "base"), measure_one(task, "base")))

    def block(task: str, pairs: int) -> None:
        while len(state[task].pairs) < pairs:
            first = ("base", "head") if random.integers(2) else ("head", "base")
            for order in (first, first[::-1]):
                if len(state[task].pairs) < pairs:
                    taken = {side: measure_one(task, side) for side in order}
                    state[task].pairs.append((taken["base"], taken["head"]))

    for name in chosen.tasks:
        attempt(name, lambda name=name: calibrate(name))
        for row in chosen.rows_of(name):
            if row.name not in decided:
                _report_calibration(row, state[name], plan, decided, tell)
    for look in plan.looks:
        for name in chosen.tasks:
            waiting = [row for row in chosen.rows_of(name) if row.name not in decided]
            if waiting and not state[name].failure:
                attempt(name, lambda name=name, look=look: block(name, look))
                for row in waiting:
                    if row.name not in decided:
                        _look(row, state[name], plan, look == plan.looks[-1], decided, tell)
    return [decided[row.name] for row in chosen.rows]


def _values(row: Row, pairs: list[tuple[Sample, Sample]]) -> tuple[list[float], list[float]]:
    return [float(a[row.metric]) for a, _ in pairs], [float(b[row.metric]) for _, b in pairs]


def _same_side_spread(row: Row, task: _Task) -> float:
    """The spread of all pairs of the same side: of calibration, and of neighbours in the interleaved order."""
    a, b = _values(row, task.calibration)
    later = [(side, float(s[row.metric])) for side, s in task.order[2 * len(task.calibration) :]]
    return effect.spread(np.concatenate([differences(a, b), effect.neighbours(later)]))


def _report_calibration(
    row: Row, task: _Task, plan: Plan, decided: dict[str, Comparison], tell: Callable[[str], None]
) -> None:
    """Report the noise of calibration, and decide rows that need no pairs or that one side does not report."""
    if not task.calibration:
        return
    if any(row.metric not in sample for _, sample in task.order):
        decided[row.name] = _comparison(row, "not-applicable", f"the implementation reports no {row.metric}", task)
        return
    a, b = _values(row, task.calibration)
    if constant(a, b) and a[0] == b[0]:
        tell(f"{row.name}: A/A is constant, {a[0]:g} {row.unit}; any difference of {row.floor:g} or more is seen")
        return
    noise, plan = _same_side_spread(row, task), plan.with_floor(float(np.median(a)), row.floor)
    seen = effect.minimum_effect(plan, noise)
    shown = slowdown_text(seen, float(np.median(a)), row.unit)
    tell(
        f"{row.name}: A/A pairs spread by {noise:.1%} ({len(a)} pairs), so that {plan.looks[-1]} pairs see a slowdown "
        f"of {shown} or more in {effect.POWER:.0%} of cases"
    )
    if seen > HOPELESS * plan.effect:
        why = f"A/A pairs spread by {noise:.0%}: {plan.effect:.0%} cannot be seen with {plan.looks[-1]} pairs"
        decided[row.name] = _comparison(row, "noisy", why, task, noise, seen)


def _look(
    row: Row, task: _Task, plan: Plan, last: bool, decided: dict[str, Comparison], tell: Callable[[str], None]
) -> None:
    """Decide a row at a look, or at the last one say why it cannot be decided."""
    if any(row.metric not in sample for _, sample in task.order):
        decided[row.name] = _comparison(row, "not-applicable", f"the head reports no {row.metric}", task)
        return
    a, b = _values(row, task.pairs)
    if constant(a, b):
        decision = decide_exactly(a[0], b[0], plan, row.floor, row.lower_is_better)
        why = f"{a[0]:g} -> {b[0]:g} {row.unit}, the same in all {len(a)} pairs"
        decided[row.name] = _comparison(row, decision.value, why, task, 0.0, 0.0, rule="exact")
    else:
        d, plan = differences(a, b, row.lower_is_better), plan.with_floor(float(np.median(a)), row.floor)
        decision = decide(d, plan)
        if decision is Decision.UNDECIDED and not last:
            return
        noise = _same_side_spread(row, task)
        seen = effect.minimum_effect(plan, noise)
        noisy = decision is Decision.UNDECIDED and seen > plan.effect
        outcome = "noisy" if noisy else decision.value
        decided[row.name] = _comparison(
            row, outcome, _reason(decision, d, plan, float(np.median(a)), row.unit), task, noise, seen
        )
    made = decided[row.name]
    tell(f"{row.name}: {made.outcome} after {len(made.base)} pairs, {made.why}")


def slowdown_text(effect: float, base: float, unit: str) -> str:
    """A slowdown in words: as a fraction, or in the row's unit where an absolute floor makes the fraction absurd."""
    if math.isinf(effect):
        return "no size"
    return f"{effect:.0%}" if effect < 1 else f"{effect * base:.2g} {unit}"


def _reason(decision: Decision, d: np.ndarray, plan: Plan, base: float, unit: str) -> str:
    """The reason of a decision, in a phrase."""
    text, size = f"{int(np.sum(d > 0))} of {len(d)} pairs worse", slowdown_text(plan.effect, base, unit)
    if decision is Decision.CLEARED:
        return f"{text}; a slowdown of {size} is ruled out"
    if decision is Decision.UNDECIDED:
        return f"{text}; a slowdown of {size} is neither shown nor ruled out"
    return f"{text}, by {math.expm1(abs(float(np.median(d)))):.1%}"


def _comparison(
    row: Row, outcome: str, why: str, task: _Task, noise: float = math.nan, seen: float = math.nan, rule: str = "paired"
) -> Comparison:
    complete = [pair for pair in task.pairs if all(row.metric in sample for sample in pair)]
    a, b = _values(row, complete)
    ratio = math.nan
    if complete:
        sign = np.median(differences(a, b))
        ratio = float(np.exp(sign))
    return Comparison(
        row=row.name, unit=row.unit, outcome=outcome, why=why, lower_is_better=row.lower_is_better, base=tuple(a),
        head=tuple(b), ratio=ratio, spread=noise, minimum_effect=seen, rule=rule,
    )  # fmt: skip
