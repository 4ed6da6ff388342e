"""Time one problem on several implementations: a first pass certifies, then interleaved rounds time.

Times are taken inside the implementation's own process, from the call until the answer is NumPy arrays.  The first pass
goes up the steps 1, 2, 4, ... until the equilibrium is certified or a call takes too long, so that whatever is compiled
has been, and the activities that are certified come from the very calls that are timed later.  Each round then goes
through all implementations in an order of its own, so that whatever slows the machine down slows all of them down.

A crash, a time-out or an answer that breaks the contract ends the row of that implementation and nothing else: what it
had measured stays, and its process is started anew for the next case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from pcbench.errors import ImplementationError, TheoryError, WorkerTimeoutError, first_line
from pcbench.leaderboard.cases import Case
from pcbench.leaderboard.outcome import Point, Row, Solved
from pcbench.leaderboard.quality import certify_activities
from pcbench.output.display import Display
from pcbench.problem.network import Activities, Network
from pcbench.timing.clock import long_enough
from pcbench.worker.subject import Subject

MOST_STEPS = 1 << 16
"""Where a curve ends, however short a step is."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    **Arguments:** `rounds` of timing; `tolerances`, gaps over the loss, in falling order; `seconds` that the longest
    call of a curve takes, about; `long_seconds`, that of the call by which a step is timed: long, as what is compiled
    may depend on the number of steps, and long runs are what throughput is about.
    """

    rounds: int = 5
    tolerances: tuple[float, ...] = (1e-2, 1e-4, 1e-6)
    seconds: float = 1.0
    long_seconds: float = 0.5


class Runner:
    """One implementation on one case: calls, with the seconds that they took inside it."""

    def __init__(self, subject: Subject, case: Case) -> None:
        self._subject = subject
        self._case = case
        network, self._input, self._target = case.arrays
        self._network: Network = subject.as_sent(network)  # once: another object would be sent again at every call

    def infer(self, steps: int) -> tuple[Activities, float]:
        """The activities after `steps` steps from the feedforward pass."""
        state = self._subject.infer(self._network, self._input, self._target, steps, self._case.problem.step_size)
        return state.activities, self._seconds()

    def step(self, steps: int) -> float:
        """The seconds alone, see `pcbench.timing.clock.Stepper`."""
        return self.infer(steps)[1]

    def equilibrium(self) -> tuple[Activities, str, int | None, float]:
        """What its solver returns, with outcome and evaluations as it says."""
        claimed = self._subject.equilibrium(self._network, self._input, self._target)
        evaluations = None if claimed.evaluations is None else int(claimed.evaluations)
        return claimed.activities, claimed.outcome, evaluations, self._seconds()

    @property
    def solves(self) -> bool:
        """Whether there is a solver."""
        return "equilibrium" in self._subject.offers

    def _seconds(self) -> float:
        return float(self._subject.transport.last_meta["seconds"])


def measure_case(
    case: Case,
    subjects: Mapping[str, Subject],
    rows: Mapping[str, Row],
    plan: Plan,
    random: Random,
    *,
    display: Display,
    save: Callable[[], None],
) -> list[list[str]]:
    """Fill the `rows` of a case, by implementation; the order of implementations in every round.

    `save` is called whenever there is something new.
    """
    runners = {name: Runner(subjects[name], case) for name in rows}
    drawn = []
    for number in range(1 + plan.rounds):
        names = list(runners)
        random.shuffle(names)
        drawn.append(names)
        for name in names:
            if rows[name].outcome not in ("not-run", "measured"):
                continue  # lost in an earlier round
            what = "first pass" if number == 0 else f"round {number} of {plan.rounds}"
            display.show_current(0, f"{case.name}, {case.problem.dtype}: {name}, {what}")
            action = _first if number == 0 else _round
            try:
                action(case, runners[name], rows[name], plan)
            except WorkerTimeoutError as error:
                _record_error(rows[name], "timeout", error)
            except (ImplementationError, TheoryError) as error:
                _record_error(rows[name], "error", error)
            else:
                if number:
                    rows[name].outcome = "measured"
            save()
    return drawn


def _first(case: Case, runner: Runner, row: Row, plan: Plan) -> None:
    """The first call, how many steps are long enough, the curve without times, and the solver's answer."""
    row.first_call = runner.step(1)
    row.more_steps = long_enough(runner.step, plan.long_seconds)
    steps = 1
    while True:
        activities, seconds = runner.infer(steps)
        found = certify_activities(case, activities, max(plan.tolerances))
        row.curve.append(Point(steps=steps, gap=found.relative_gap_bound, residual=found.relative_residual))
        if 2 * seconds > plan.seconds:
            seconds = min(seconds, runner.step(steps))  # the first may have compiled for this many steps
        row.stopped = _stop(found.is_within(min(plan.tolerances)), steps, seconds, plan)
        if row.stopped:
            break
        steps *= 2
    row.more_steps = max(row.more_steps, row.curve[-1].steps - 1)
    if runner.solves:
        activities, outcome, evaluations, _ = runner.equilibrium()
        found = certify_activities(case, activities)
        row.equilibrium = Solved(
            outcome=outcome,
            gap=found.relative_gap_bound,
            residual=found.relative_residual,
            evaluations=evaluations,
            reason=found.reason,
        )


def _stop(arrived: bool, steps: int, seconds: float, plan: Plan) -> str:
    if arrived:
        return f"certified to {min(plan.tolerances):g}"
    if 2 * seconds > plan.seconds:
        return f"a longer call would take over {plan.seconds:g} s"
    return f"{steps} steps" if steps >= MOST_STEPS else ""


def _round(case: Case, runner: Runner, row: Row, plan: Plan) -> None:
    """The time of everything once more, kept only if the round is whole."""
    short, longest = runner.step(1), 1 + row.more_steps
    curve = [runner.step(point.steps) for point in row.curve]
    long = curve[-1] if row.curve[-1].steps == longest else runner.step(longest)
    solved = runner.equilibrium()[3] if row.equilibrium is not None else None
    row.short.append(short)
    row.long.append(long)
    for point, seconds in zip(row.curve, curve, strict=True):
        point.seconds.append(seconds)
    if row.equilibrium is not None and solved is not None:
        row.equilibrium.seconds.append(solved)


def _record_error(row: Row, outcome: str, error: Exception) -> None:
    row.outcome, row.why = outcome, first_line(error)
