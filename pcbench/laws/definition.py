r"""Definition of a law: an identity or theorem with a domain, a measurement and an allowance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pcbench.errors import UsageError
from pcbench.oracle import numerics
from pcbench.problem.architectures import AnyProblem, ArchitectureProblem
from pcbench.problem.network import ACTIVATIONS, DTYPES, LOSSES, PLACEMENTS
from pcbench.worker.subject import Subject

SMOOTH = tuple(a for a in ACTIVATIONS if a != "relu")


@dataclass(frozen=True, kw_only=True)
class Domain:
    r"""The problems that a law is about: the values each setting may take, and limits on the sizes.

    A strategy *constructs* problems inside it; nothing is filtered away.  `steps` and `step_sizes` are inclusive
    ranges; `hidden_units` bounds \(N(L-1)\) for laws that need the dense activity Hessian; `large` marks laws of the
    limits, which are judged at sizes where width is much larger than depth; `costly` those that make a compiled
    implementation compile programs that no other law needs; `kind` is what is judged, a key of
    `Capabilities.architectures`.
    """

    kind: str = "mlp"
    activations: tuple[str, ...] = ACTIVATIONS
    placements: tuple[str, ...] = PLACEMENTS
    losses: tuple[str, ...] = LOSSES
    dtypes: tuple[str, ...] = DTYPES
    residual: tuple[bool, ...] = (False, True)
    parameterisations: tuple[str, ...] = ("sp", "ntp", "mupc", "general")
    weight_laws: tuple[str, ...] = ("gaussian", "orthogonal", "low-rank", "zero", "ill-conditioned")
    weight_scales: tuple[float, ...] = (1.0, 0.3, 2.0, 1e-3)
    data_laws: tuple[str, ...] = ("gaussian", "orthogonal", "low-rank", "zero", "ill-conditioned")
    data_scales: tuple[float, ...] = (1.0, 0.1, 1e-4, 1e3)
    output_precisions: tuple[float, ...] = (1.0, 0.25, 3.0)
    output_multipliers: tuple[float, ...] = (1.0, 0.5, 4.0)
    depth: tuple[int, int] = (2, 64)
    steps: tuple[int, int] = (0, 24)
    output_dim: int = 1
    batch: int = 1
    hidden_units: int = 1 << 30
    scalar_output: bool = False
    square: bool = False
    large: bool = False
    costly: bool = False

    def admits(self, problem: AnyProblem) -> bool:
        """Whether the law speaks about this problem."""
        if isinstance(problem, ArchitectureProblem) or self.kind != "mlp":
            return self._admits_architecture(problem)
        named = problem.parameterisation if isinstance(problem.parameterisation, str) else "general"
        return (
            problem.activation in self.activations
            and problem.placement in self.placements
            and problem.loss in self.losses
            and problem.dtype in self.dtypes
            and problem.residual in self.residual
            and named in self.parameterisations
            and problem.weight_law in self.weight_laws
            and problem.data_law in self.data_laws
            and self.depth[0] <= problem.depth <= self.depth[1]
            and problem.output_dim >= self.output_dim
            and problem.batch >= self.batch
            and (not self.scalar_output or problem.output_dim == 1)
            and problem.width * (problem.depth - 1) <= self.hidden_units
            and (not self.square or problem.width > problem.output_dim)
        )

    def _admits_architecture(self, problem: AnyProblem) -> bool:
        return (
            isinstance(problem, ArchitectureProblem)
            and problem.kind == self.kind
            and problem.activation in self.activations
            and problem.loss in self.losses
            and problem.dtype in self.dtypes
            and problem.parameterisation in self.parameterisations
            and problem.output_precision in self.output_precisions
            and problem.batch >= self.batch
            and self.steps[0] <= problem.steps <= self.steps[1]
        )


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """How far an implementation was from a law on one problem, and how far it was allowed to be.

    **Arguments:** `error` and `allowance` in the same unit; `details` are numbers or short texts for the report;
    `inconclusive` says why this problem decides nothing (no certificate, or rounding would hide any defect), in which
    case it counts neither as passed nor as failed; `samples` and `shapes` are what an experiment rests on.
    """

    error: float
    allowance: float
    details: Mapping[str, Any] = field(default_factory=dict)
    inconclusive: str | None = None
    samples: int = 1
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def margin(self) -> float:
        """Error over allowance; above 1 the law is broken."""
        return numerics.margin(self.error, self.allowance)

    @property
    def failed(self) -> bool:
        """Whether the law is broken on this problem."""
        return self.inconclusive is None and self.margin > 1


Measure = Callable[[Subject, Any], Measurement]


@dataclass(frozen=True, kw_only=True)
class Law:
    """A law, stated once: `tests/` calls it on fixed problems, `properties/` on drawn ones, the CLI on anybody's code.

    **Arguments:** `id` is stable; `statement` is what a scientist would sign; `citation` its source; `needs` the
    capabilities without which it is not applicable; `failing_means` what a failure usually points to; `depends_on`
    laws whose failure blocks this one.

    A law of a limit speaks about many random networks at once.  It names the `ladder` of sizes
    (`pcbench.laws.measuring.ladders`) on which it draws them, is judged once a run, on the first rung of that ladder as
    its problem, and says how many `estimates` it makes, so that all of them can share one error budget
    (`pcbench.laws.measuring.statistics`).
    """

    id: str
    statement: str
    citation: str
    failing_means: str
    measure: Measure
    needs: frozenset[str] = frozenset()
    domain: Domain = Domain()
    depends_on: tuple[str, ...] = ()
    ladder: str = ""
    estimates: int = 0

    def not_applicable_reason(self, subject: Subject) -> str | None:
        """Why this law cannot be judged on an implementation, or None if it can."""
        absent = sorted(self.needs - subject.offers)
        if absent:
            return "needs " + ", ".join(absent)
        c = subject.manifest.capabilities
        if self.domain.kind not in c.architectures:
            return f"needs architecture {self.domain.kind}"
        for name, wanted, offered in (
            ("activation", self.domain.activations, c.activations),
            ("loss", self.domain.losses, c.losses),
            ("dtype", self.domain.dtypes, c.dtypes),
        ):
            if not set(wanted) & set(offered):
                return f"needs {name} {' or '.join(wanted)}"
        if "linear" not in set(self.domain.activations) & set(c.activations) and not (
            set(self.domain.placements) & set(c.placements)
        ):
            return f"needs placement {' or '.join(self.domain.placements)}"
        if self.domain.residual == (True,) and not c.residual:
            return "needs residual"
        return None

    def refuses(self, subject: Subject, problem: Any) -> str | None:
        """Why this law cannot be judged on an implementation with this problem, or None if it can."""
        reason = self.not_applicable_reason(subject) or subject.refuses(problem)
        if reason is None and not self.domain.admits(problem):
            reason = "outside the domain of the law"
        return reason


REGISTRY: dict[str, Law] = {}
"""Every law by id, in the order of definition, which respects `depends_on`."""


def law(
    id: str,
    *,
    statement: str,
    citation: str,
    failing_means: str,
    needs: tuple[str, ...] = (),
    domain: Domain | None = None,
    depends_on: tuple[str, ...] = (),
    ladder: str = "",
    estimates: int = 0,
) -> Callable[[Measure], Measure]:
    """Register the decorated measurement as a law."""

    def register(measure: Measure) -> Measure:
        if id in REGISTRY:
            raise UsageError(f"law {id!r} is defined twice")
        for name in depends_on:
            if name not in REGISTRY:
                raise UsageError(f"law {id!r} depends on {name!r}, which is not defined before it")
        REGISTRY[id] = Law(
            id=id,
            statement=statement,
            citation=citation,
            failing_means=failing_means,
            measure=measure,
            needs=frozenset(needs),
            domain=domain or Domain(),
            depends_on=depends_on,
            ladder=ladder,
            estimates=estimates,
        )
        return measure

    return register
