r"""Evidence from one group of examples of a law, and the verdict merged from all groups.

A run splits the examples of every law into a fixed number of groups, each with its share of the palette, so that
groups can be judged by different processes; the split does not depend on how many processes there are, and merging
is order-free, so a report does not either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

OUTCOMES = (
    "pass",
    "fail",
    "expected-failure",
    "unexpected-pass",
    "inconclusive",
    "not-applicable",
    "blocked",
    "error",
    "timeout",
    "not-run",
)
BROKEN = ("fail", "error", "timeout")
"""Outcomes that break what depends on a law, worst first."""


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The measurement with the largest margin, and the problem that gave it."""

    margin: float = 0.0
    error: float = 0.0
    allowance: float = 0.0
    problem: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one group of examples of one law showed.

    **Arguments:** `examples` counts measurements that decided something, `inconclusive` those that did not (`why`
    says why, with a count for each reason); `shapes` are the distinct `(D, N, L, K, B)` among the former; `failure`
    is the smallest failing problem found, or None; `message` is the cause of an outcome other than pass.
    """

    law: str
    group: int
    outcome: str
    examples: int = 0
    inconclusive: int = 0
    why: dict[str, int] = field(default_factory=dict)
    shapes: tuple[tuple[int, ...], ...] = ()
    worst: Worst = field(default_factory=Worst)
    failure: Worst | None = None
    message: str = ""
    stderr: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Evidence:
        """The inverse of `to_json`."""
        values = dict(data)
        values["shapes"] = tuple(tuple(s) for s in values.get("shapes", ()))
        values["worst"] = Worst(**values.get("worst", {}))
        values["failure"] = Worst(**values["failure"]) if values.get("failure") else None
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on one law: `outcome` from `OUTCOMES` and what stands behind it; fields as in `Evidence`."""

    law: str
    outcome: str
    examples: int = 0
    inconclusive: int = 0
    why: dict[str, int] = field(default_factory=dict)
    shapes: int = 0
    worst: Worst = field(default_factory=Worst)
    failure: Worst | None = None
    message: str = ""
    stderr: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Verdict:
        """The inverse of `to_json`."""
        values = dict(data)
        values["worst"] = Worst(**values.get("worst", {}))
        values["failure"] = Worst(**values["failure"]) if values.get("failure") else None
        return cls(**values)


def merge(law: str, parts: Iterable[Evidence], minimum: int) -> Verdict:
    """The verdict over all groups of one law.

    A failure in any group fails the law, with the smallest failing problem of all groups; an error or a time-out
    comes next.  Fewer than `minimum` examples that decided something make a law inconclusive, never passed.
    """
    parts = sorted(parts, key=lambda e: e.group)
    if not parts:
        return Verdict(law=law, outcome="not-run")
    judged = [e for e in parts if e.outcome != "not-applicable"]
    if not judged:
        return Verdict(law=law, outcome="not-applicable", message=parts[0].message)
    examples = sum(e.examples for e in judged)
    outcome, speaker = "pass", judged[0]
    for candidate in (*BROKEN, "blocked", "not-run"):
        hit = [e for e in judged if e.outcome == candidate]
        if hit:
            outcome, speaker = candidate, hit[0]
            break
    failures = [e.failure for e in judged if e.failure is not None]
    failure = min(failures, key=lambda f: (_size(f.problem), f.problem)) if failures else None
    message = speaker.message
    if outcome == "fail" and failure is not None:
        message = next(e.message for e in judged if e.failure == failure)
    if outcome == "pass" and examples < minimum:
        outcome, message = "inconclusive", f"only {examples} of at least {minimum} examples decided anything"
    why: dict[str, int] = {}
    for e in judged:
        for reason, count in e.why.items():
            why[reason] = why.get(reason, 0) + count
    return Verdict(
        law=law,
        outcome=outcome,
        examples=examples,
        inconclusive=sum(e.inconclusive for e in judged),
        why=why,
        shapes=len({s for e in judged for s in e.shapes}),
        worst=max((e.worst for e in judged), key=lambda w: w.margin),
        failure=failure,
        message=message,
        stderr=speaker.stderr,
        seconds=sum(e.seconds for e in judged),
    )


def blocked_message(dependencies: Iterable[str], outcomes: Mapping[str, str]) -> str:
    """Which broken laws block one with these `dependencies`, given the `outcomes` of laws; empty if none does."""
    roots = sorted(name for name in dependencies if outcomes.get(name) in BROKEN)
    return f"depends on {', '.join(roots)}" if roots else ""


def block(verdicts: Sequence[Verdict], dependencies: Mapping[str, set[str]]) -> list[Verdict]:
    """The verdicts with dependants of broken laws blocked: one root cause, one failure.

    `dependencies` maps each law to everything it depends on, directly or not.
    """
    outcomes = {v.law: v.outcome for v in verdicts}
    result = []
    for v in verdicts:
        blocked = blocked_message(dependencies.get(v.law, ()), outcomes)
        if blocked and v.outcome != "not-applicable":
            v = Verdict(law=v.law, outcome="blocked", message=blocked, seconds=v.seconds)
        result.append(v)
    return result


def _size(problem: str) -> int:
    """A rough size of a problem line for choosing the smallest: the product of its sizes."""
    product = 1
    for part in problem.split(","):
        name, _, value = part.partition("=")
        if name in ("D", "N", "L", "K", "B") and value.isdigit():
            product *= int(value)
    return product
