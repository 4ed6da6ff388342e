"""The benchmarks for asv: what asv finds, that each runs, and the mathematics of every cost.  No time is asserted."""

import importlib.util
import inspect
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pcbench.benchmarks as shipped
from pcbench import theory
from pcbench.adapters.numpy import NumpyPCN
from pcbench.benchmarks import backprop, checking, compilation, determinism, divergence, nets, process, thresholds
from pcbench.benchmarks import energy_rises as rising
from pcbench.benchmarks.process import asv_machine
from pcbench.benchmarks.settings import read_settings
from pcbench.errors import ContractError, UsageError
from pcbench.laws.definition import Measurement
from pcbench.oracle import mlp as oracle
from pcbench.oracle.numerics import norm
from pcbench.problem.mlp import Problem
from pcbench.protocol.implementation import Inference
from pcbench.report.evidence import Verdict, Worst
from pcbench.timing import machine_record as machine
from pcbench.worker.client import InProcess
from pcbench.worker.subject import Subject

ROOT = Path(__file__).resolve().parents[2]
NET = "N=4,L=3,B=2"
TRACKED = [
    (name, method)
    for name in shipped.__all__
    for method, _ in inspect.getmembers(getattr(shipped, name), inspect.isfunction)
    if method.startswith("track_")
]


def program(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def implementation():
    """Environment and caches as in one process of asv, with `numpy` under test and the shortest bodies."""
    with pytest.MonkeyPatch.context() as patch:
        yield from _implementation(patch, "numpy")


def _implementation(patch, name):
    patch.setenv("PCBENCH_IMPL", name)
    patch.setenv("PCBENCH_LAWS", "contract.inputs-unmodified")
    patch.setattr(process, "LEAST_SECONDS", 1e-4)
    patch.setattr(process, "BODIES", 1)
    for cached in (process.offer, process.measure_method, process.benchmark_subject):
        cached.cache_clear()
    yield patch
    if process.benchmark_subject.cache_info().currsize:
        process.benchmark_subject().close()
    for cached in (process.offer, process.measure_method, process.benchmark_subject):
        cached.cache_clear()


# ---- what asv finds ---------------------------------------------------------------------------------------------


def test_the_project_imports_every_shipped_benchmark_in_one_line_each():
    """If this fails, a benchmark that is shipped is not run by pcbench's own asv project, or one is run twice."""
    found = []
    for path in sorted((ROOT / "asv_bench" / "benchmarks").glob("*.py")):
        if path.stem != "__init__":
            assert len([line for line in path.read_text().splitlines() if line.startswith("from ")]) == 1, path
            found += [n for n, v in vars(program(path)).items() if inspect.isclass(v) and not n.startswith("_")]
    assert sorted(found) == sorted(shipped.__all__)


@pytest.mark.parametrize(("name", "method"), TRACKED)
def test_what_asv_reads_of_a_benchmark(name, method):
    """If this fails, asv hashes the source for a version, shows no unit, or calls with the wrong arguments."""
    benchmark = getattr(shipped, name)()
    assert isinstance(benchmark.version, str)
    assert getattr(benchmark, method).unit
    params, names = getattr(benchmark, "params", ()), getattr(benchmark, "param_names", ())
    assert len(params) == len(names)
    assert all(len(set(values)) == len(values) >= 1 for values in params)
    given = list(inspect.signature(getattr(benchmark, method)).parameters)
    assert given == [*(["check"] if hasattr(benchmark, "setup_cache") else []), *names]
    if hasattr(benchmark, "setup"):
        assert list(inspect.signature(benchmark.setup).parameters) == list(names)


def test_asv_s_own_discovery_agrees():
    """If this fails, asv finds other benchmarks than the tests above look at; needs asv, which pcbench does not."""
    pytest.importorskip("asv_runner")
    code = (
        "import sys, json\nfrom asv_runner.discovery import disc_benchmarks\n"
        f"sys.path.insert(0, {str(ROOT / 'asv_bench')!r})\n"
        f"print(json.dumps([b.name for b in disc_benchmarks({str(ROOT / 'asv_bench' / 'benchmarks')!r})]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert sorted(n.split(".", 1)[1] for n in json.loads(done.stdout)) == sorted(".".join(pair) for pair in TRACKED)


def test_another_project_needs_one_line_and_loads_no_implementation(tmp_path):
    """If this fails, a maintainer cannot import the benchmarks, or discovery already runs the library under test."""
    (tmp_path / "mine.py").write_text("from pcbench.benchmarks import *\n")
    code = (
        "import sys, mine, inspect\n"
        "print(*sorted(n for n, v in vars(mine).items() if inspect.isclass(v) and not n.startswith('_')))\n"
        "assert 'jax' not in sys.modules"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(shipped.__all__)


@pytest.mark.parametrize(("name", "method"), TRACKED)
def test_every_benchmark_gives_a_number(implementation, name, method):
    """If this fails, a benchmark cannot be run at all."""
    benchmark = getattr(shipped, name)()
    first = [_small_net(values[0]) if n == "net" else values[0] for n, values in zip(
        getattr(benchmark, "param_names", ()), getattr(benchmark, "params", ()), strict=True
    )]  # fmt: skip
    if hasattr(benchmark, "setup_cache"):
        first = ["contract.inputs-unmodified"] if first else []
        value = getattr(benchmark, method)(_check_results(), *first)
    else:
        benchmark.setup(*first)
        value = getattr(benchmark, method)(*first)
    silent = {"track_device", "track_programs"}  # NumPy has neither
    assert math.isnan(value) if method in silent else value >= 0


def _small_net(word):
    return NET if "B=" in word else NET.rpartition(",")[0]


def _check_results():
    if not _CHECKED:
        _CHECKED.append(checking.Check().setup_cache())
    return _CHECKED[0]


_CHECKED: list = []


# ---- what does not apply, and what is refused -------------------------------------------------------------------

LAZY = """
import numpy as np
from pcbench import Capabilities, Equilibrium, Manifest
from pcbench.adapters.numpy import NumpyPCN
class Lazy(NumpyPCN):
    train = None
    manifest = Manifest(name="lazy", capabilities=Capabilities(scalings="native", activations=("linear", "tanh")))
    def equilibrium(self, network, input, target):
        return Equilibrium(activities=self.infer(network, input, target, 1, 1e-3).activities)
implementation = Lazy
"""


def test_a_solver_that_stops_early_has_no_time_and_a_missing_method_is_skipped(tmp_path):
    """If this fails, the fastest solver is the one that does nothing, or a missing method shows as a failure."""
    (tmp_path / "lazy.py").write_text(LAZY)
    with pytest.MonkeyPatch.context() as patch:
        for _ in _implementation(patch, str(tmp_path / "lazy.py")):
            with pytest.raises(ContractError, match="not certified"):
                shipped.CertifiedEquilibrium().track_seconds(NET, "tanh")
            with pytest.raises(NotImplementedError, match="no train"):
                shipped.TrainingStep().setup(NET, "float64")
            with pytest.raises(NotImplementedError, match="no float32"):
                shipped.Inference().setup(NET, "float32")
            shipped.Inference().setup(NET, "float64")


CACHED = """
import os
from pathlib import Path
from pcbench.adapters.numpy import NumpyPCN
class Cached(NumpyPCN):
    made = 0
    def infer(self, *arguments):
        assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
        marker = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", "/nowhere"), "compiled")
        if not marker.exists() and not self.made:
            self.made += 1
            if marker.parent.exists():
                marker.touch()
        return super().infer(*arguments)
    def compilations(self):
        return self.made
implementation = Cached
"""


def test_warm_finds_what_cold_compiles(tmp_path):
    """If this fails, the warm time is that of a cold start, the cold one finds old programs, or a GPU is filled."""
    (tmp_path / "cached.py").write_text(CACHED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
        for _ in _implementation(patch, str(tmp_path / "cached.py")):
            assert process.measure_method("infer", nets.problem_from_word(NET))["compilations"] == 1
            assert process.measure_method("infer", nets.problem_from_word(NET), warm=True)["compilations"] == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PCBENCH_IMPL": "mine.py"}, "absolute"),
        ({"PCBENCH_IMPL": "folder/mine.py:implementation"}, "absolute"),
        ({"PCBENCH_GRID": "huge"}, "small or full"),
        ({"PCBENCH_THREADS": "0"}, "at least 1"),
        ({"PCBENCH_THREADS": "many"}, "at least 1"),
    ],
)
def test_settings_that_mean_nothing(variables, said):
    """If this fails, a misspelt variable silently measures something else."""
    with pytest.raises(UsageError, match=said):
        read_settings(variables)


def test_settings_by_default():
    """If this fails, the defaults are not those of the documentation."""
    plain = read_settings({})
    assert plain.spec == "pcbench.adapters.reference:implementation"
    assert (plain.python, plain.full, plain.threads, plain.laws) == (None, False, 1, ())


def test_the_full_grid_contains_the_small_one_and_every_corner_that_fits():
    """If this fails, a full run cannot be compared with a small one, or a cell takes all the memory."""
    words = nets.grid_words(full=True)
    assert words[:3] == nets.grid_words(full=False)
    assert {"N=32,L=4,B=1", "N=32,L=128,B=1024", "N=2048,L=4,B=1024", "N=512,L=128,B=64"} <= set(words)
    assert "N=2048,L=128,B=1" not in words  # 5e8 weights
    steps = [nets.problem_from_word(word).steps for word in words]
    assert min(steps) >= 2
    assert max(steps) == 50


# ---- the mathematics of the costs -------------------------------------------------------------------------------


class Steps(NumpyPCN):
    """Steps of a multiple of the size asked for; a list is gone through call by call."""

    def __init__(self, *factors):
        self._factors, self._calls = factors, 0

    def infer(self, network, input, target, steps, step_size, start=None):
        factor = self._factors[self._calls % len(self._factors)]
        self._calls += 1
        if math.isnan(factor):
            return Inference(activities=[np.full_like(a, np.nan) for a in start or ()])
        return super().infer(network, input, target, steps, factor * step_size, start)


def subject(*factors):
    return Subject(InProcess(Steps(*factors)))


@pytest.mark.parametrize(
    ("factor", "rate"), [(1.0, 0.0), (1.1, 0.0), (3.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (0.0, 0.0)]
)
def test_the_rate_of_divergence(factor, rate):
    """If this fails, an implementation that diverges everywhere is not at 1, or a stable one not at 0.

    At 0.9 of the threshold a step 1.1 times too large is still stable, one 3 times too large multiplies the top mode by
    1 - 2 x 2.7 = -4.4 a step.
    """
    assert divergence.rate(subject(factor), divergence.draw_problems("linear", 12)) == rate


def test_the_rate_of_divergence_counts_problems():
    """If this fails, the rate is not a fraction of the problems."""
    assert divergence.rate(subject(1.0, 1.0, 1.0, math.nan), divergence.draw_problems("linear", 12)) == 0.25


@pytest.mark.parametrize("net", ["N=16,L=4,B=4", "N=8,L=16,B=4"])
@pytest.mark.parametrize(("factor", "largest"), [(1.0, 1.0), (2.0, 0.5), (0.5, 2.0), (-1.0, 1 / 16), (0.0, 16.0)])
def test_the_largest_stable_step(net, factor, largest):
    """If this fails, the cost of an implementation whose steps are twice too large is not 2."""
    problem = Problem.from_line(f"D=8,K=4,{net},seed=1")
    assert thresholds.largest_stable(subject(factor), problem) == pytest.approx(largest, rel=1e-3)


def test_bisection_finds_a_threshold_and_stops_at_the_ends():
    """If this fails, the largest stable step is one of the search, not of the implementation."""
    assert thresholds.bisect_threshold(lambda f: f <= 0.37) == pytest.approx(0.37, rel=1e-4)
    assert thresholds.bisect_threshold(lambda f: True) == 16
    assert thresholds.bisect_threshold(lambda f: False) == 1 / 16


@pytest.mark.parametrize(("factors", "expected"), [((1.0,), 0), ((0.0,), 0), ((-1.0,), 8), ((1.0, -1.0), 4)])
def test_rises_of_the_energy(factors, expected):
    """If this fails, steps uphill are not counted, or rounding is."""
    problem = Problem(input_dim=4, width=8, depth=4, output_dim=3, batch=4, seed=2, steps=1)
    assert rising.rises(subject(*factors), problem, 8) == expected


def test_steps_after_the_last_number_all_count():
    """If this fails, an implementation that ends in NaN has few rises."""
    problem = Problem(input_dim=4, width=8, depth=4, output_dim=3, batch=4, seed=2, steps=1)
    assert rising.rises(subject(1.0, 1.0, math.nan), problem, 10) == 8


def test_the_gradient_error_is_that_of_the_closed_form():
    """If this fails, the error is not the relative distance of the two gradients."""
    problem = Problem.from_line("D=6,K=4,B=8,N=16,L=4,residual=true,seed=1")
    network, x, y = problem.network(), problem.input(), problem.target()
    bp = oracle.backprop_gradients(network, x, y)
    apart = [a - b for a, b in zip(theory.equilibrium_weight_gradients(network, x, y), bp, strict=True)]
    assert backprop.error(subject(1.0), problem) == pytest.approx(norm(apart) / norm(bp), rel=1e-8)


def test_the_gradient_error_without_inference():
    """If this fails, an implementation that never infers is not charged all layers but the last."""

    class Idle(NumpyPCN):
        def equilibrium(self, network, input, target):
            found = super().equilibrium(network, input, target)
            return type(found)(activities=oracle.feedforward(network, input))

    problem = Problem.from_line("D=6,K=4,B=8,N=16,L=4,residual=true,seed=1")
    bp = oracle.backprop_gradients(problem.network(), problem.input(), problem.target())
    expected = norm(bp[:-1]) / norm(bp)
    assert backprop.error(Subject(InProcess(Idle())), problem) == pytest.approx(expected, rel=1e-12)


def measurement(error, bitwise):
    return Measurement(error=error, allowance=1.0, details={"bitwise": bitwise})


@pytest.mark.parametrize(
    ("here", "elsewhere", "grade"),
    [
        (measurement(0.0, "yes"), measurement(0.0, "yes"), 1),
        (measurement(0.0, "yes"), measurement(0.5, "no"), 2),
        (measurement(0.5, "no"), measurement(0.0, "yes"), 3),
        (measurement(2.0, "no"), measurement(0.0, "yes"), 4),
        (measurement(0.0, "yes"), measurement(2.0, "no"), 4),
    ],
)
def test_grades_of_determinism(here, elsewhere, grade):
    """If this fails, a grade does not mean what its table says."""
    assert determinism.grade(here, elsewhere) == grade


def verdict(outcome, worst=0.0, failure=None):
    failed = None if failure is None else Worst(margin=failure)
    return Verdict(law="a.law", outcome=outcome, worst=Worst(margin=worst), failure=failed)


def test_margins_are_costs_that_json_can_hold():
    """If this fails, a broken law looks cheap, an inapplicable one looks perfect, or the site cannot be read."""
    assert checking.margin(verdict("pass", 0.25)) == 0.25
    assert checking.margin(verdict("pass", 0.0)) == 1e-6
    assert checking.margin(verdict("fail", 0.5, 30.0)) == 30.0
    assert checking.margin(verdict("fail", math.inf)) == checking.margin(verdict("error")) == 1e18
    assert checking.margin(verdict("blocked")) == 1e18
    assert math.isnan(checking.margin(verdict("not-applicable")))
    assert math.isnan(checking.margin(verdict("inconclusive")))
    every = [verdict(o) for o in ("pass", "fail", "error", "timeout", "blocked", "inconclusive", "expected-failure")]
    assert checking.count_broken(every) == 4


def test_the_margins_are_those_of_the_check(implementation):
    """If this fails, laws and margins are mixed up, or another set of laws was judged than was asked for."""
    found = _check_results()
    assert set(found["margins"]) >= {"contract.inputs-unmodified"}
    assert found["margins"]["contract.inputs-unmodified"] == 1e-6  # exact: nothing may be modified
    assert found["broken"] == 0


def test_what_compiling_costs():
    """If this fails, a first call is charged its work too, or less than nothing."""
    assert compilation.overhead({"first_call_seconds": 3.0, "call_seconds": 1.0}) == 2.0
    assert compilation.overhead({"first_call_seconds": 1.0, "call_seconds": 3.0}) == 0.0


# ---- the machine, and the history -------------------------------------------------------------------------------


def test_the_name_of_a_machine_is_that_of_its_settings(implementation):
    """If this fails, results with other flags or from another driver land in one graph, or those of one day do not."""
    plain = asv_machine()
    assert plain["lasting"]["process"]["python"]
    assert machine.name(plain) == machine.name({**plain, "now": {}})
    implementation.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    flagged = asv_machine()
    assert flagged["lasting"]["flags"]["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=false"
    assert machine.name(flagged) != machine.name(plain)


def test_what_the_driver_says_of_two_gpus():
    """If this fails, the record of a GPU names the wrong driver."""
    text = "NVIDIA H100 80GB HBM3, 550.54.15\nNVIDIA L4, 550.54.15\n"
    found = machine.parse_gpus(("name", "driver_version"), text)
    assert [gpu["name"] for gpu in found] == ["NVIDIA H100 80GB HBM3", "NVIDIA L4"]
    assert found[0]["driver_version"] == "550.54.15"
    assert machine.parse_gpus(("name",), "") == []


def run(**results):
    return {"result_columns": ["result", "params"], "results": results}


def test_later_rounds_repeat_the_times_alone():
    """If this fails, a second round judges all laws again, or leaves times to a single round."""
    timed = program(ROOT / "ci" / "history.py").TIMED
    names = {pair: f"{getattr(shipped, pair[0]).__module__.rpartition('.')[2]}.{'.'.join(pair)}" for pair in TRACKED}
    again = {pair[0] for pair, name in names.items() if re.search(timed, name)}
    assert again == {"CertifiedEquilibrium", "Compilation", "Import", "Inference", "TrainingStep", "WeightGradient"}


def test_rounds_are_merged_by_the_median_of_what_there_is():
    """If this fails, the history shows one lucky or unlucky round, or a benchmark that failed once is lost."""
    history = program(ROOT / "ci" / "history.py")
    a, b, c = (run(x=[[v, w], []]) for v, w in ((1.0, None), (9.0, 5.0), (2.0, math.nan)))
    a["results"]["late"] = [None, []]
    b["results"]["late"] = [[7.0], []]
    c["results"]["new"] = [[3.0], []]
    merged = history.median([a, b, c])["results"]
    assert merged["x"] == [[2.0, 5.0], []]
    assert merged["late"] == [[7.0], []]
    assert merged["new"] == [[3.0], []]
    assert a["results"]["x"][0] == [1.0, None]


def test_the_merged_results_name_no_path_of_the_machine(tmp_path):
    """If this fails, a committed history tells where its maker's Python lies."""
    history = program(ROOT / "ci" / "history.py")
    place = tmp_path / "round" / "m"
    place.mkdir(parents=True)
    data = {**run(x=[[1.0], []]), "env_name": "existing-py_home_me_bin", "python": "/home/me/bin/python",
            "params": {"python": "/home/me/bin/python", "machine": "m"}}  # fmt: skip
    (place / "0123abcd-existing-py_home_me_bin.json").write_text(json.dumps(data))
    (place / "machine.json").write_text("{}")
    (tmp_path / "round" / "benchmarks.json").write_text("{}")
    assert history.keep([tmp_path / "round"], "m", tmp_path / "out") == 1
    (kept,) = (tmp_path / "out" / "m").glob("0123abcd-*.json")
    assert "home" not in kept.name + kept.read_text()
    assert history.keep([tmp_path / "empty"], "m", tmp_path / "none") == 0
