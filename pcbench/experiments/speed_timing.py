"""Seconds of one step of anything that takes steps, of several things at once, on a machine that others use too.

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


def stepper(program: Callable[[int], Any]) -> Stepper:
    """The stepper of a program of JAX, called with a number of steps and waited for."""

    def timed(steps: int) -> float:
        begin = time.perf_counter()
        jax.block_until_ready(program(steps))
        return time.perf_counter() - begin

    return timed


def long_enough(step: Stepper, seconds: float) -> int:
    """The steps that take about `seconds`, at least 3; `step` has been called before, so nothing is compiled."""
    steps = 3
    while True:
        took = step(steps)
        wanted = min(MOST_STEPS, int(steps * seconds / max(took, 1e-9)))
        if wanted <= 2 * steps:
            return max(3, steps, wanted)
        steps = min(wanted, 16 * steps)  # the first calls are mostly overhead, from which nothing is extrapolated far


def step_seconds(steppers: Mapping[str, Stepper], counts: Mapping[str, int], rounds: int) -> dict[str, float]:
    """Seconds of a step of each, from `rounds` rounds of a call with one step and one with `counts` more."""
    short: dict[str, float] = {}
    long: dict[str, float] = {}
    for _ in range(rounds):
        for name, step in steppers.items():
            short[name] = min(short.get(name, float("inf")), step(1))
            long[name] = min(long.get(name, float("inf")), step(1 + counts[name]))
    # Under a millisecond of noise a difference may come out as nothing; a step is not shorter than a nanosecond.
    return {name: max(1e-9, long[name] - short[name]) / counts[name] for name in steppers}
