"""Time one step of several iterative programs, on a machine that others use too.

A *stepper* takes a number of steps and says how many seconds that took.  Whatever a call costs besides its steps (to
convert arrays, to cross a process boundary) is in the seconds of a call with one step as well, so the difference of
two calls over the difference of their steps is the step alone.  All are measured in turn, round after round, and each
is judged by its fastest rounds: other work on the machine only ever adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

Stepper = Callable[[int], float]
"""Seconds of a call with so many steps, at least 1."""

MOST_STEPS = 20_000
"""In one call, however short a step is."""

_LONGER = 1.5
"""What the steps beyond the first take at least, over a call with one."""


def stepper(program: Callable[[int], Any]) -> Stepper:
    """The stepper of a program of JAX, called with a number of steps and waited for."""

    def time_steps(steps: int) -> float:
        begin = time.perf_counter()
        jax.block_until_ready(program(steps))
        return time.perf_counter() - begin

    return time_steps


def long_enough(step: Stepper, seconds: float) -> int:
    """The steps beyond the first that take about `seconds`, and more than a call with one; `step` has compiled.

    The second matters where a call costs much besides its steps, to bring gigabytes of weights into another form say:
    the scatter of that cost would drown a difference smaller than it.  Each length is tried twice, as the first try
    may have been interrupted, and only what a call takes more than one with a single step counts.
    """
    overhead = min(step(1), step(1))
    needed = max(seconds / 2, _LONGER * overhead)
    if overhead >= seconds:
        steps, took = 2, step(3)
        if took - overhead >= needed:
            return steps
    steps = 4
    while steps < MOST_STEPS:
        took = min(step(1 + steps), step(1 + steps)) - overhead
        if took >= needed:
            break
        steps = min(MOST_STEPS, 16 * steps, max(2 * steps, int(1.2 * steps * needed / max(took, 1e-9))))
    return steps


def step_seconds(steppers: Mapping[str, Stepper], counts: Mapping[str, int], rounds: int) -> dict[str, float]:
    """Seconds of a step of each, from `rounds` rounds of a call with one step and one with `counts` more."""
    short: dict[str, float] = {}
    long: dict[str, float] = {}
    for _ in range(rounds):
        for name, step in steppers.items():
            short[name] = min(short.get(name, float("inf")), step(1))
            long[name] = min(long.get(name, float("inf")), step(1 + counts[name]))
    return {name: _slope(short[name], long[name], counts[name]) for name in steppers}


def _slope(short: float, long: float, count: int) -> float:
    """The difference by its steps; where all short calls were disturbed, so that there is none, the bound it has."""
    return (long - short) / count if long > 1.5 * short else long / (1 + count)
