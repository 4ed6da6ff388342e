"""Plan of a conformance run: implementation, laws, problems and limits.

There is one plan for a run.  The command line, the pytest plugin and `pcbench.check` make it in the same way; it is
checked when it is made, and sent to every runner process once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcbench.adapters import register
from pcbench.errors import UsageError
from pcbench.laws import REGISTRY, Law, select
from pcbench.report import known_failures as known
from pcbench.report.known_failures import KnownFailure
from pcbench.report.profiles import Profile, profile_named
from pcbench.worker.isolation import ISOLATIONS
from pcbench.worker.limits import Limits

ENGINE = "pcbench.properties"
"""The module whose `judge_group` gathers evidence; tests of the runner put another in its place."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides the verdicts of a run; see `make_plan`.

    **Arguments:** `implementation` as the user named it, and the `spec` that this stands for, empty for an object that
    only this process has; `python`, the interpreter it runs in, None for pcbench's own; the name of the `profile`; the
    `seed` of all problems; the ids of the `laws`; the `limits` of one call; `in_process`, whether it runs inside the
    runners; `isolation`, how long its processes live, one of `ISOLATIONS`; `known`, the failures that are expected;
    `engine`, see `ENGINE`.
    """

    implementation: str
    spec: str
    python: str | None
    profile: str
    seed: int
    laws: tuple[str, ...]
    limits: Limits
    in_process: bool = False
    isolation: str = "run"
    known: tuple[KnownFailure, ...] = ()
    engine: str = ENGINE

    @property
    def evidence(self) -> Profile:
        """How much evidence the laws need."""
        return profile_named(self.profile)

    @property
    def selected_laws(self) -> list[Law]:
        """The laws, in the order of the register."""
        wanted = set(self.laws)
        return [law for law in REGISTRY.values() if law.id in wanted]

    @property
    def first(self) -> dict[str, str]:
        """For a law, the line of a problem to measure before any is drawn."""
        return {entry.law: entry.problem for entry in self.known if entry.problem}

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON data, for the runner processes."""
        return {**vars(self), "limits": vars(self.limits), "known": [vars(entry) for entry in self.known]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        known_entries = tuple(KnownFailure(**entry) for entry in data["known"])
        limits = Limits(**data["limits"])
        return cls(**{**data, "laws": tuple(data["laws"]), "limits": limits, "known": known_entries})

    def settings(self) -> dict[str, Any]:
        """What decides a judgement, and nothing that does not, as plain JSON data: the name of the journal."""
        return {k: v for k, v in self.to_json().items() if k not in ("implementation", "known")} | {"first": self.first}


def make_plan(
    implementation: Any,
    *,
    profile: str = "standard",
    seed: int,
    laws: str | Iterable[str] = (),
    python: str | Path | None = None,
    known_failures: str | Path | Sequence[KnownFailure] | None = None,
    limits: Limits | None = None,
    in_process: bool = False,
    isolation: str = "run",
    engine: str = ENGINE,
) -> Plan:
    """The plan that these words stand for; arguments as for `pcbench.check`.

    **Raises:** `UsageError` for a name, a number or a file that cannot be meant.
    """
    evidence = profile_named(profile)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise UsageError(f"seed {seed!r}: needed an integer from 0 to 2**64 - 1")
    if isolation not in ISOLATIONS:
        raise UsageError(f"isolation {isolation!r}: needed one of {', '.join(ISOLATIONS)}")
    limits = limits or Limits()
    limited = limits.cpu_seconds is not None or limits.memory_mib is not None
    if in_process and (limited or isolation != "run"):
        raise UsageError(
            "limits and isolation need a process of its own for the implementation: leave out in_process (--in-process)"
        )
    interpreter = None if python is None else str(python)
    if isinstance(implementation, str):
        name = implementation
        spec, interpreter = register.locate(implementation, interpreter, in_process)
    else:
        if interpreter is not None or limited or isolation != "run":
            raise UsageError(f"{implementation!r} is an object here: python, limits and isolation need the name of one")
        kind = implementation if isinstance(implementation, type) else type(implementation)
        name, spec, in_process = f"{kind.__module__}:{kind.__qualname__}", "", True
    selected = select([laws] if isinstance(laws, str) else list(laws))
    if not selected:
        raise UsageError("there are no laws to judge")
    if known_failures is None or isinstance(known_failures, (str, Path)):
        entries = known.read(known_failures, list(REGISTRY)) if known_failures else []
    else:
        entries = list(known_failures)
    ids = tuple(law.id for law in selected)
    return Plan(
        implementation=name,
        spec=spec,
        python=interpreter,
        profile=evidence.name,
        seed=seed,
        laws=ids,
        limits=limits,
        in_process=in_process,
        isolation=isolation,
        known=tuple(entry for entry in entries if entry.law in ids),
        engine=engine,
    )
