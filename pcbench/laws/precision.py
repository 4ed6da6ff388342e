r"""Laws of floating-point precision and compilation: what dtype and shape may and may not change."""

from __future__ import annotations

from pcbench.laws.definition import Domain, Measurement, law
from pcbench.laws.measuring.compare import case, compare_arrays, compare_numbers
from pcbench.oracle import rounding
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject


@law(
    "precision.float32-follows-float64",
    statement="Float32 answers are within the rounding of float32 of the float64 answers to the same question.",
    citation="Higham 2002; pcbench.oracle.rounding",
    failing_means="matrix products in reduced precision (TF32, bfloat16), or float64 that is float32 inside",
    needs=("float32", "float64", "energy-at-activities", "weight-gradients"),
    domain=Domain(dtypes=("float32",), costly=True),
    depends_on=("energy.matches-definition",),
)
def float32_follows_float64(subject: Subject, problem: Problem) -> Measurement:
    """The float64 question carries the same numbers, which float32 holds exactly."""
    network, x, y = case(problem)
    z = problem.activities()
    wide = network.astype("float64")
    x64, y64, z64 = x.astype("float64"), y.astype("float64"), [a.astype("float64") for a in z]
    energies = compare_numbers(
        subject.energy(network, x, y, z), subject.energy(wide, x64, y64, z64),
        rounding.energy_bound(network, x, y, z), what="energy",
    )  # fmt: skip
    gradients = compare_arrays(
        subject.weight_gradients(network, x, y, z),
        subject.weight_gradients(wide, x64, y64, z64),
        rounding.weight_gradient_bounds(network, x, y, z),
        what="weight gradients",
    )
    results = [r for r in (energies, gradients) if r.inconclusive is None] or [energies]
    return max(results, key=lambda m: m.margin)


@law(
    "precision.no-retrace-on-equal-shapes",
    statement="New values of equal shape never cause a compilation.",
    citation="pcbench protocol; FabricPC's run_inference outside jit retraces on every call",
    failing_means="a Python number, a step size or a count baked into the compiled program",
    needs=("compilations",),
    depends_on=("contract.shapes-and-dtypes",),
)
def no_retrace(subject: Subject, problem: Problem) -> Measurement:
    """Everything is asked twice; the second time all values differ and no shape does."""

    def ask(p: Problem) -> None:
        network, x, y = case(p)
        z = p.activities()
        subject.predict(network, x)
        subject.infer(network, x, y, max(1, p.steps), p.step_size)
        if "start" in subject.offers:
            subject.infer(network, x, y, max(1, p.steps), p.step_size, z)
        if "energy-at-activities" in subject.offers:
            subject.energy(network, x, y, z)
        if "weight-gradients" in subject.offers:
            subject.weight_gradients(network, x, y, z)

    ask(problem)
    before = subject.compilations()
    precision = 2 * problem.output_precision if subject.manifest.capabilities.precision else 1.0
    ask(
        problem.replace(
            seed=problem.seed ^ 1,
            steps=problem.steps + 1,
            step_size=0.5 * problem.step_size,
            output_precision=precision,
            output_multiplier=2 * problem.output_multiplier,
        )
    )
    return Measurement(error=float(subject.compilations() - before), allowance=0.5)
