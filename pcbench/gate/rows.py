r"""Definitions of the speed rows: what a process measures, and which of its numbers are compared.

A row is a cost, lower is better, unless it says otherwise.  Times of inference are *seconds per sample-step*, so that
other numbers of steps or samples may be compared by eye.  The absolute floors are in the row's unit, and say below
which difference nobody would notice, whatever the ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pcbench.errors import UsageError
from pcbench.problem.mlp import Problem

CERTIFIED = 1e-8
"""An equilibrium counts if its energy is certified to this fraction of the loss; 1e-4 in float32, as for the laws."""


@dataclass(frozen=True, kw_only=True)
class Task:
    r"""What one process does: one method of the protocol on one problem.

    **Arguments:** `method` of the protocol; `problem`, in which the activation is what is wished for and replaced by
    one that the implementation claims (see `pcbench.worker.subject.adapt_problem`); `divisor`, what the
    seconds of a call are divided by.
    """

    name: str
    method: str
    problem: Problem
    divisor: int = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of a task, compared between two commits.

    **Arguments:** `name`; `task` whose process measures it; `metric`, the key in what the process reports; `unit`;
    `floor`, the smallest difference that matters, in that unit; `lower_is_better`.
    """

    name: str
    task: str
    metric: str = "seconds"
    unit: str = "s"
    floor: float = 0.0
    lower_is_better: bool = True


def _net(width: int, depth: int, batch: int, **more: Any) -> Problem:
    settings: dict[str, Any] = {"activation": "tanh", "residual": True, "dtype": "float32", "seed": 1, **more}
    return Problem(input_dim=32, width=width, depth=depth, output_dim=10, batch=batch, **settings)


def _inference(name: str, width: int, depth: int, batch: int, steps: int) -> Task:
    return Task(
        name=name, method="infer", problem=_net(width, depth, batch, steps=steps, step_size=0.05), divisor=steps * batch
    )


_GRADIENT = _net(256, 8, 64)
_TRAINING = _net(128, 8, 32, steps=8, step_size=0.05)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _inference("infer-deep-narrow", 32, 32, 32, 50),
        _inference("infer-medium", 128, 8, 64, 20),
        _inference("infer-wide", 512, 4, 128, 5),
        Task(name="weight-gradient", method="weight_gradients", problem=_GRADIENT),
        Task(name="equilibrium", method="equilibrium", problem=_net(64, 8, 16, dtype="float64")),
        Task(name="training-step", method="train", problem=_TRAINING),
    )
}
"""What processes measure, by name."""

TRAINING_ITERATIONS = 4
"""Updates in one call of `train`; the row is seconds for one."""

# 20 microseconds a call is what dispatch from Python costs; a difference below it is nobody's business.
_CALL = 2e-5
ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        *(
            Row(name=name, task=name, unit="s per sample-step", floor=_CALL / TASKS[name].divisor)
            for name in ("infer-deep-narrow", "infer-medium", "infer-wide")
        ),
        Row(name="weight-gradient", task="weight-gradient", floor=_CALL),
        Row(name="equilibrium", task="equilibrium", floor=_CALL),
        Row(name="equilibrium-evaluations", task="equilibrium", metric="evaluations", unit="evaluations", floor=2),
        Row(name="training-step", task="training-step", floor=_CALL),
        Row(name="import", task="infer-medium", metric="import_seconds", floor=0.05),
        Row(name="first-call", task="infer-medium", metric="first_call_seconds", floor=0.05),
        Row(name="compilations", task="infer-medium", metric="compilations", unit="programs", floor=1),
        Row(name="peak-memory", task="infer-wide", metric="peak_memory", unit="MiB", floor=16),
    )
}
"""What is compared by default, by name.  `first-call` includes compilation, from a cold cache."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Rows and the tasks that they need, in the order in which they run."""

    rows: tuple[Row, ...]
    tasks: dict[str, Task] = field(default_factory=dict)

    def rows_of(self, task: str) -> list[Row]:
        """The rows that a task's process measures."""
        return [row for row in self.rows if row.task == task]


def choose(names: Sequence[str] = ()) -> Chosen:
    """The rows of these names, all for none.

    **Raises:** `UsageError` for a name that does not exist.
    """
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise UsageError(f"row {', '.join(unknown)} does not exist: needed some of {', '.join(ROWS)}")
    rows = tuple(ROWS[name] for name in ROWS if not names or name in names)
    wanted = {row.task for row in rows}
    return Chosen(rows=rows, tasks={name: task for name, task in TASKS.items() if name in wanted})
