"""Judging a law on drawn problems: every outcome, what is counted, what is reported, and that it repeats."""

from dataclasses import replace

import numpy as np
import pytest
from pcbench.properties import judge_group, property_test
from pcbench.properties import measure_problem as replay_law
from pcbench.properties.judge import MOST_INCONCLUSIVE, describe
from pcbench.properties.mlp import configurations
from pcbench.properties.reduce import ATTEMPTS, reduce_problem

from pcbench.adapters.numpy import NumpyPCN
from pcbench.conformance.session import unfit_problems
from pcbench.errors import AdapterError, ContractError, TheoryError, WorkerCrashError, WorkerTimeoutError
from pcbench.laws import REGISTRY
from pcbench.laws.definition import Domain, Law, Measurement
from pcbench.problem.mlp import Problem
from pcbench.report.profiles import Profile
from pcbench.worker.client import InProcess
from pcbench.worker.subject import Subject

PROFILE = Profile(name="test", examples=13, groups=2, shapes=6, minimum=8)
HOLDS = Measurement(error=0.25, allowance=1.0)
BROKEN = Measurement(error=3.0, allowance=1.0, details={"layer": 2, "size": 0.125})


def subject(implementation=None, compiled=True):
    pcn = NumpyPCN() if implementation is None else implementation
    if compiled:
        pcn.manifest = replace(pcn.manifest, capabilities=replace(pcn.manifest.capabilities, shapes="palette"))
    return Subject(InProcess(pcn))


def law_of(measure, **changes):
    """A law that measures what a function of the problem says, and the problems it was asked about."""
    seen = []

    def count_measurement(subject, problem):
        seen.append(problem)
        return measure(problem)

    return Law(
        id="test.law", statement="S", citation="C", failing_means="M", measure=count_measurement, **changes
    ), seen


def run(measure, group=0, profile=PROFILE, seed=1, **changes):
    law, seen = law_of(measure, **changes)
    return judge_group(law, subject(), profile, seed, group), seen


def raiser(error):
    def measure(problem):
        raise error

    return measure


# ---- outcomes -----------------------------------------------------------------------------------------------------


def test_pass():
    """If this fails, a law that holds is not reported as such, or on fewer examples than it counts."""
    evidence, seen = run(lambda p: HOLDS)
    assert (evidence.outcome, evidence.examples, evidence.inconclusive) == ("pass", 7, 0)
    assert len(seen) == 7
    assert set(evidence.shapes) == {p.shape for p in seen}
    assert evidence.worst.margin == 0.25
    assert Problem.from_line(evidence.worst.problem) in seen
    assert (evidence.failure, evidence.message) == (None, "")


def test_groups_share_the_examples():
    """If this fails, the number of examples depends on how they are split."""
    assert [run(lambda p: HOLDS, group)[0].examples for group in (0, 1)] == [7, 6]


def test_the_worst_margin_is_kept():
    """If this fails, the report shows some margin instead of the largest."""
    evidence, seen = run(lambda p: Measurement(error=p.seed % 1000 / 2000, allowance=1.0))
    assert evidence.worst.margin == max(p.seed % 1000 / 2000 for p in seen)
    assert Problem.from_line(evidence.worst.problem).seed % 1000 / 2000 == evidence.worst.margin


def test_fail():
    """If this fails, a broken law passes, or its failure cannot be replayed."""
    evidence, seen = run(lambda p: BROKEN)
    assert evidence.outcome == "fail"
    assert evidence.failure.margin == 3.0
    assert evidence.failure.details == {"layer": 2, "size": 0.125}
    assert evidence.message == "error 3, allowed 1 (layer 2, size 0.125)"
    assert Problem.from_line(evidence.failure.problem) in seen
    assert evidence.examples == 1


def test_a_given_problem_is_measured_before_any_is_drawn():
    """If this fails, a known failure that few problems show is taken for one that is gone, or its problem for many."""
    given = Problem(input_dim=2, width=2, depth=3, output_dim=1, batch=1, seed=987654321)
    law, seen = law_of(lambda p: BROKEN if p.seed == given.seed else HOLDS)
    evidence = judge_group(law, subject(compiled=False), replace(PROFILE, shrink=False), 1, 0, given)
    assert (evidence.outcome, evidence.failure.problem, len(seen)) == ("fail", given.line(), 1)
    law, seen = law_of(lambda p: HOLDS)
    assert judge_group(law, subject(compiled=False), PROFILE, 1, 0, given).examples == 8
    assert (seen[0], len(seen)) == (given, 8)
    law, seen = law_of(lambda p: HOLDS)
    judge_group(law, subject(compiled=False), PROFILE, 1, 1, given)
    assert given not in seen


def test_a_given_problem_outside_what_a_law_is_about_is_known_before():
    """If this fails, an entry of the known failures is measured where the law says nothing, or one of a limit is not
    accepted although it draws its own."""
    line = "D=2,N=2,L=3,K=1,B=1,activation=tanh"
    law, _ = law_of(lambda p: HOLDS, domain=Domain(activations=("linear",)))
    assert unfit_problems([law], subject(), {law.id: line}) == {law.id: "outside the domain of the law"}
    assert unfit_problems([law], subject(), {law.id: line.replace("tanh", "linear")}) == {}
    assert unfit_problems([law], subject(), {}) == {}
    assert unfit_problems([replace(law, ladder="width")], subject(), {law.id: line}) == {}
    wide, _ = law_of(lambda p: HOLDS)
    cnn = "kind=cnn,width=2,blocks=1,batch=1,side=4,channels=1,stages=1,classes=2"
    assert "architecture='cnn' is not claimed" in unfit_problems([wide], subject(), {wide.id: cnn})[wide.id]


def test_an_infinite_or_undefined_error_fails():
    """If this fails, NaN passes."""
    for error in (float("nan"), float("inf")):
        assert run(lambda p, error=error: Measurement(error=error, allowance=1.0))[0].outcome == "fail"


def test_a_broken_contract_fails_with_its_sentence():
    """If this fails, a malformed answer is an error without a law, or passes."""
    evidence, _ = run(raiser(ContractError("predict returned shape (2,): needed (2, 1)")))
    assert (evidence.outcome, evidence.message) == ("fail", "predict returned shape (2,): needed (2, 1)")
    assert evidence.failure.margin == float("inf")


@pytest.mark.parametrize(
    ("error", "outcome", "start", "stderr"),
    [
        (AdapterError("predict raised KeyError: 'W'", "Traceback"), "error", "predict raised KeyError", "Traceback"),
        (WorkerCrashError("the worker was killed", "Segmentation fault"), "error", "the worker was killed", "Segment"),
        (WorkerTimeoutError("no answer in 5 s"), "timeout", "no answer in 5 s", ""),
    ],
)
def test_errors_stop_a_law_after_one_call(error, outcome, start, stderr):
    """If this fails, shrinking restarts a crashing implementation dozens of times, or its cause is lost."""
    evidence, seen = run(raiser(error))
    assert evidence.outcome == outcome
    assert evidence.message.startswith(start)
    assert evidence.failure.problem == seen[0].line()
    assert evidence.stderr.startswith(stderr)
    assert len(seen) == 1
    assert evidence.examples == 0


def test_an_error_after_examples_that_held():
    """If this fails, examples before a crash are lost, or the crash is."""
    evidence, seen = run(lambda p: HOLDS if p.depth < 3 else raiser(WorkerTimeoutError("late"))(p))
    assert evidence.outcome == "timeout"
    assert evidence.examples == len(seen) - 1
    assert sum(p.depth >= 3 for p in seen) == 1


def test_an_error_while_a_failure_is_made_smaller_does_not_take_it_back():
    """If this fails, an implementation that a broken law leaves in ruins is undecided instead of failed."""
    state = {"calls": 0}

    def measure(problem):
        state["calls"] += 1
        return BROKEN if state["calls"] == 1 else raiser(AdapterError("predict raised KeyError: 'W'"))(problem)

    evidence, seen = run(measure)
    assert (evidence.outcome, evidence.failure.margin) == ("fail", 3.0)
    assert evidence.failure.problem == seen[0].line()
    assert len(seen) == 2


def test_inconclusive():
    """If this fails, a law that decided nothing passes, or goes on for ever."""
    evidence, seen = run(lambda p: Measurement(error=9.0, allowance=1.0, inconclusive=f"reason {p.residual}"))
    assert (evidence.outcome, evidence.examples) == ("inconclusive", 0)
    assert evidence.inconclusive == len(seen) == sum(evidence.why.values())
    assert MOST_INCONCLUSIVE * 7 <= len(seen) <= MOST_INCONCLUSIVE * 7 + 1
    assert set(evidence.why) == {"reason True", "reason False"}
    assert evidence.message == "reason False; reason True"


def test_only_examples_that_decide_are_counted():
    """If this fails, a verdict rests on examples that showed nothing."""
    evidence, seen = run(lambda p: replace(HOLDS, inconclusive="even") if p.seed % 2 == 0 else HOLDS)
    assert (evidence.outcome, evidence.examples) == ("pass", 7)
    assert evidence.inconclusive == sum(p.seed % 2 == 0 for p in seen) > 0
    assert evidence.why == {"even": evidence.inconclusive}
    assert set(evidence.shapes) == {p.shape for p in seen if p.seed % 2}


def test_a_theory_that_refuses_decides_nothing():
    """If this fails, an implementation fails because a closed form does not describe its activities."""
    evidence, _ = run(raiser(TheoryError("no such thing")))
    assert evidence.outcome == "inconclusive"
    assert list(evidence.why) == ["no closed form: no such thing"]


FAR = (
    "D=1,N=13,L=5,K=4,B=2,activation=gelu-tanh,placement=after-weight,parameterisation=ntp,dtype=float32,"
    "weight_law=low-rank,weight_scale=2.0,data_scale=1000.0,seed=209,steps=17,step_size=0.2"
)
"""Inference diverges to 5e21, whose cube float32 does not hold."""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("id", ["inference.batch-size-changes-nothing", "contract.shapes-and-dtypes"])
def test_where_the_dtype_ends_nan_decides_nothing(id):
    """If this fails, an implementation that is right fails for the cube of 5e21 in float32, as the reference would.

    NaN on a problem that stays in range is still a broken contract.
    """

    class Lost(NumpyPCN):
        def infer(self, network, input, target, steps, step_size, start=None):
            state = super().infer(network, input, target, steps, step_size, start)
            return replace(state, activities=[np.full_like(z, np.nan) for z in state.activities])

    far = Problem.from_line(FAR)
    for implementation in (NumpyPCN(), Lost()):
        measured = replay_law(REGISTRY[id], subject(implementation), far)
        if isinstance(implementation, Lost) or id.startswith("inference"):
            assert measured.inconclusive == "inference leaves the range of the dtype"
    for near in (far.replace(steps=4), far.replace(dtype="float64")):
        assert replay_law(REGISTRY[id], subject(Lost()), near).failed


def test_a_bug_in_a_law_is_not_blamed_on_the_implementation():
    """If this fails, a mistake of pcbench's own becomes somebody else's failure."""
    with pytest.raises(ZeroDivisionError):
        run(raiser(ZeroDivisionError()))


def test_flaky_implementations_fail():
    """If this fails, an implementation with hidden state passes, or stops the run."""
    state = {"calls": 0}

    def measure(problem):
        state["calls"] += 1
        return BROKEN if state["calls"] == 4 else HOLDS

    evidence, seen = run(measure)
    assert evidence.outcome == "fail"
    assert evidence.failure.margin == 3.0
    assert Problem.from_line(evidence.failure.problem) in seen


# ---- what is reported ---------------------------------------------------------------------------------------------


def test_failures_shrink_to_the_smallest_sizes_and_plainest_settings():
    """If this fails, a report shows a large odd problem where a small plain one would do."""
    evidence, _ = run(lambda p: BROKEN if p.depth >= 3 and p.activation != "linear" else HOLDS)
    assert evidence.outcome == "fail"
    assert evidence.failure.problem == "D=1,N=1,L=3,K=1,B=1,activation=tanh,steps=0"


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (lambda p: p.loss == "ce", "D=1,N=1,L=2,K=2,B=1,loss=ce,steps=0"),
        (lambda p: p.residual and p.batch > 1, "D=1,N=1,L=2,K=1,B=2,residual=true,steps=0"),
        (lambda p: p.dtype == "float32", "D=1,N=1,L=2,K=1,B=1,dtype=float32,steps=0"),
        (lambda p: p.placement == "after-weight" and p.width > 1, None),
    ],
)
def test_each_setting_shrinks(broken, line):
    """If this fails, the setting that causes a failure is hidden among others."""
    failures = [run(lambda p: BROKEN if broken(p) else HOLDS, group)[0].failure for group in (0, 1)]
    found = [f.problem for f in failures if f]
    assert found
    for text in found:
        if line is not None:
            assert text == line
        else:
            p = Problem.from_line(text)
            assert (p.width, p.depth, p.batch, p.activation, p.placement) == (2, 2, 1, "tanh", "after-weight")


def test_without_shrinking_the_failure_is_reported_as_found():
    """If this fails, a profile that asks for speed still pays for shrinking."""
    evidence, seen = run(lambda p: BROKEN if p.depth >= 3 else HOLDS, profile=replace(PROFILE, shrink=False))
    assert evidence.outcome == "fail"
    # Hypothesis replays a failure once to see that it is one.
    assert len(seen) - len(set(seen)) <= 1
    assert evidence.failure.problem == seen[-1].line()


class SkipsForgotten(NumpyPCN):
    """Residual connections are left out of every layer but the second."""

    def _skip(self, network, l, below):
        return super()._skip(network, l, below) if l == 2 else 0 * below


def test_a_real_defect_is_found_and_made_small():
    """If this fails, a defect in the third layer is reported on a network with many."""
    evidences = [
        judge_group(REGISTRY["energy.matches-definition"], subject(SkipsForgotten()), PROFILE, 1, group)
        for group in (0, 1)
    ]
    problems = [Problem.from_line(e.failure.problem) for e in evidences if e.failure]
    assert problems
    smallest = min(problems, key=lambda p: p.width * p.depth * p.batch)
    assert (smallest.depth, smallest.residual, smallest.batch) == (4, True, 1)
    assert smallest.width <= 2


@pytest.mark.parametrize("id", ["energy.matches-definition", "inference.trajectory-follows-definition"])
def test_a_correct_implementation_passes_and_a_replay_agrees(id):
    """If this fails, the problem line of a report does not give the margin of the report."""
    evidence = judge_group(REGISTRY[id], subject(), PROFILE, 2, 0)
    assert evidence.outcome == "pass"
    again = replay_law(REGISTRY[id], subject(), Problem.from_line(evidence.worst.problem))
    assert again.margin == evidence.worst.margin


def test_reduce_stays_inside_the_domain_and_the_claims():
    """If this fails, a law is said to fail on a problem that it does not speak about."""
    law, seen = law_of(lambda p: BROKEN, domain=Domain(depth=(4, 64), activations=("relu",), output_dim=2, batch=2))
    start = Problem(input_dim=5, width=9, depth=7, output_dim=3, batch=4, activation="relu", loss="ce")
    claims = subject()
    small, measurement = reduce_problem(law, claims, start, lambda p: law.measure(claims, p))
    assert small.line() == "D=1,N=1,L=4,K=2,B=2,activation=relu,steps=1"
    assert measurement is BROKEN
    assert all(law.domain.admits(p) for p in seen)
    assert len(seen) <= ATTEMPTS


def test_reduce_finds_nothing_smaller():
    """If this fails, a failure is replaced by one that is none."""
    law, _ = law_of(lambda p: HOLDS)
    start = Problem(input_dim=5, width=9, depth=7, output_dim=3, batch=4)
    assert reduce_problem(law, subject(), start, lambda p: HOLDS) is None
    assert reduce_problem(law, subject(), start, raiser(AdapterError("another defect"))) is None


# ---- repeatable ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", [NumpyPCN, SkipsForgotten])
@pytest.mark.parametrize("compiled", [True, False])
def test_the_same_seed_gives_the_same_evidence(implementation, compiled):
    """If this fails, a report cannot be repeated from its seed."""
    law = REGISTRY["energy.matches-definition"]
    first, second = (judge_group(law, subject(implementation(), compiled), PROFILE, 7, 0) for _ in range(2))
    assert replace(first, seconds=0.0) == replace(second, seconds=0.0)


def test_groups_seeds_and_laws_draw_different_examples():
    """If this fails, more groups or more runs gather no more evidence."""
    seen = {}
    for name, group, seed in (("a", 0, 1), ("a", 1, 1), ("a", 0, 2), ("b", 0, 1)):
        law, problems = law_of(lambda p: HOLDS)
        judge_group(replace(law, id=name), subject(compiled=False), PROFILE, seed, group)
        seen[name, group, seed] = {p.seed for p in problems if p.seed > 1000}  # small ones are drawn on purpose
    names = list(seen)
    for i, a in enumerate(names):
        assert len(seen[a]) >= 3
        for b in names[:i]:
            assert not seen[a] & seen[b]


def test_groups_divide_the_palette():
    """If this fails, every process compiles every shape."""
    chosen = configurations(Domain(), subject().manifest.capabilities, 1, PROFILE.shapes)
    wide = replace(PROFILE, examples=80)
    for group in (0, 1):
        _, seen = run(lambda p: HOLDS, group, profile=wide)
        assert {p.shape for p in seen} == {c.shape for c in chosen[group::2]}


def test_more_groups_than_shapes():
    """If this fails, a law with few shapes is not judged by the later groups."""
    evidence, _ = run(lambda p: HOLDS, group=6, profile=replace(PROFILE, groups=8, shapes=2, examples=40))
    assert (evidence.outcome, evidence.examples) == ("pass", 5)


def test_property_test_merges_the_groups():
    """If this fails, pytest and the command line come to different verdicts."""
    law, seen = law_of(lambda p: HOLDS)
    test = property_test(law, subject(), PROFILE, 1)
    assert test.__name__ == "test.law"
    verdict = test()
    assert (verdict.outcome, verdict.examples) == ("pass", 13)
    assert verdict.shapes == len({p.shape for p in seen})
    law, _ = law_of(lambda p: HOLDS if p.seed % 2 else replace(HOLDS, inconclusive="even"))
    assert property_test(law, subject(), replace(PROFILE, minimum=14), 1)().outcome == "inconclusive"
    law, _ = law_of(lambda p: BROKEN if p.depth > 4 else HOLDS)
    assert property_test(law, subject(), PROFILE, 1)().outcome == "fail"


def test_describe():
    """If this fails, the one line that a reader sees of a failure is unreadable."""
    assert describe(Measurement(error=1.23456789e-7, allowance=1e-9)) == "error 1.235e-07, allowed 1e-09"
    assert describe(Measurement(error=1.0, allowance=0.5, details={"layer": 3, "ratio": np.pi, "what": "x"})) == (
        "error 1, allowed 0.5 (layer 3, ratio 3.142, what x)"
    )
    assert describe(Measurement(error=1.0, allowance=0.0, details={"contract": "wrong shape"})) == "wrong shape"
