"""The measuring process and what starts it, with real processes and tiny networks; no time is ever asserted."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pcbench.adapters.register import KNOWN
from pcbench.errors import AdapterError, UsageError, WorkerTimeoutError
from pcbench.gate.outcome import Conformance
from pcbench.gate.rows import ROWS, TASKS, Chosen, Row, Task, choose
from pcbench.gate.sides import Sides
from pcbench.problem.mlp import Problem
from pcbench.protocol.implementation import Capabilities, Manifest
from pcbench.timing import harness as harnesses
from pcbench.timing import measure
from pcbench.worker.client import InProcess
from pcbench.worker.subject import adapt_problem

SMALL = Problem(input_dim=2, width=4, depth=3, output_dim=2, batch=3, steps=2, seed=1)
BOTH = {label: Conformance(passed=True, conclusion="", dtypes=("float32", "float64")) for label in ("base", "head")}

NOISY = """
import sys
print("printed while it was imported")
from pcbench.adapters.numpy import NumpyPCN
class Loud(NumpyPCN):
    def infer(self, *arguments):
        print("printed while it was timed")
        return super().infer(*arguments)
implementation = Loud
"""


@pytest.fixture
def driver():
    with harnesses.open_harness(timeout=60.0) as made:
        yield made


def adapter(folder, text, name="adapter.py"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder


def bench_of(driver, root, *methods, implementation="adapter.py", problem=SMALL):
    tasks = {m: Task(name=m, method=m, problem=problem, divisor=2) for m in methods}
    chosen = Chosen(rows=tuple(Row(name=m, task=m) for m in methods), tasks=tasks)
    sides = {label: harnesses.side(driver, label, root, implementation) for label in ("base", "head")}
    return Sides(harness=driver, sides=sides, chosen=chosen, least_seconds=1e-4, bodies=2)


def test_every_method_is_measured_whatever_is_printed(driver, tmp_path):
    """If this fails, an implementation that prints breaks the JSON, or a row cannot be measured at all."""
    methods = ("infer", "weight_gradients", "equilibrium", "train")
    bench = bench_of(driver, adapter(tmp_path / "root", NOISY), *methods)
    bench.prepare(BOTH)
    assert bench.excluded == {}
    for method in methods:
        sample = bench("head", method)
        assert sample["seconds"] > 0
        assert sample["import_seconds"] > 0
        assert sample["body_seconds"] == pytest.approx(sample["seconds"] * sample["calls"] * bench_divisor(method))
    assert bench("base", "equilibrium")["evaluations"] >= 0
    assert bench("base", "infer")["calls"] == bench("head", "infer")["calls"]


def bench_divisor(method):
    return 4 if method == "train" else 2  # the number of updates in a call of train


def test_the_commit_s_own_pcbench_is_measured(driver, tmp_path):
    """If this fails, gating pcbench itself compares the gate's own adapters with themselves."""
    package = tmp_path / "root" / "pcbench" / "adapters"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "numpy.py").write_text(
        "from pcbench.protocol.implementation import Capabilities, Inference, Manifest\n"
        "class Old:\n    manifest = Manifest(name='old one', capabilities=Capabilities())\n"
        "    def predict(self, network, input): return input @ network.weights[0].T\n"
        "    def energy(self, *a): return 0.0\n"
        "    def infer(self, network, input, target, steps, step_size, start=None):\n"
        "        return Inference(activities=[input])\n"
        "implementation = Old\n"
    )
    side = harnesses.side(driver, "base", tmp_path / "root", KNOWN["numpy"].spec)
    answer = driver.measure(side, [])
    assert answer["manifest"]["name"] == "old one"
    assert answer["loaded"] == 2
    assert answer["methods"] == []


def test_an_installed_copy_in_the_way_is_refused(driver, tmp_path):
    """If this fails, both sides are the same installed code, and the gate measures nothing for weeks."""
    root = tmp_path / "root"
    (root / "empty").mkdir(parents=True)
    side = harnesses.side(driver, "base", root, KNOWN["numpy"].spec)
    with pytest.raises(UsageError, match="installed copy is in the way"):
        driver.measure(side, [])
    elsewhere = tmp_path / "elsewhere"
    for place in (root / "lib", elsewhere / "lib"):
        place.mkdir(parents=True)
        (place / "__init__.py").write_text("")
    text = f"import sys\nsys.path.insert(0, {str(elsewhere)!r})\nimport lib\n"
    adapter(root, text + "from pcbench.adapters.numpy import implementation\n")
    with pytest.raises(UsageError, match="no package lib of base"):
        driver.measure(harnesses.side(driver, "base", root, "adapter.py"), [])


def test_an_answer_that_is_not_finite_is_no_figure(driver, tmp_path):
    """If this fails, a diverging inference is praised for its speed."""
    text = "from pcbench.adapters.numpy import NumpyPCN\nclass Bad(NumpyPCN):\n    def infer(self, *a):\n"
    text += "        answer = super().infer(*a)\n        answer.activities[0][:] = float('nan')\n"
    text += "        return answer\n"
    bench = bench_of(driver, adapter(tmp_path / "root", text + "implementation = Bad\n"), "infer")
    bench.prepare(BOTH)
    assert bench.excluded["infer"][0] == "error"
    assert "not finite" in bench.excluded["infer"][1]


def test_an_equilibrium_without_certificate_is_withheld(driver, tmp_path):
    """If this fails, the fastest solver is the one that stops at once: this one returns the feedforward pass."""
    text = "from pcbench import Equilibrium\nfrom pcbench.adapters.numpy import NumpyPCN\nclass Bad(NumpyPCN):\n"
    text += "    def equilibrium(self, network, input, target):\n"
    text += "        z = self.infer(network, input, target, 0, 0.1).activities\n"
    text += "        return Equilibrium(activities=z)\nimplementation = Bad\n"
    bench = bench_of(driver, adapter(tmp_path / "root", text), "equilibrium", "infer")
    bench.prepare(BOTH)
    assert set(bench.excluded) == {"equilibrium"}
    assert bench.excluded["equilibrium"][0] == "withheld"
    assert "not certified" in bench.excluded["equilibrium"][1]


def test_rows_need_conformance_in_their_dtype_and_the_method(driver, tmp_path):
    """If this fails, float32 is timed beside a conformance run in float64."""
    text = (
        "from pcbench.adapters.numpy import NumpyPCN\nclass Less(NumpyPCN):\n    train = None\nimplementation = Less\n"
    )
    bench = bench_of(driver, adapter(tmp_path / "root", text), "infer", "train", problem=SMALL.replace(dtype="float32"))
    bench.prepare({label: Conformance(passed=True, conclusion="", dtypes=("float64",)) for label in BOTH})
    assert bench.excluded["infer"] == ("withheld", "float32 was not judged in the conformance run of base and head")
    assert bench.excluded["train"] == ("not-applicable", "base and head offers no train")


def test_a_process_that_dies_or_hangs_is_an_error_with_its_last_words(driver, tmp_path):
    """If this fails, a crash of the implementation is a traceback of the gate, or a hang is for ever."""
    root = adapter(tmp_path / "root", "raise RuntimeError('broken on import')")
    with pytest.raises(AdapterError, match="broken on import"):
        driver.measure(harnesses.side(driver, "base", root, "adapter.py"), [])
    (root / "adapter.py").write_text("import time\ntime.sleep(600)")
    with harnesses.open_harness(timeout=0.5) as hurried, pytest.raises(WorkerTimeoutError, match=r"within 0\.5 s"):
        hurried.measure(harnesses.side(hurried, "base", root, "adapter.py"), [])


def test_ctrl_c_leaves_no_process(driver, tmp_path):
    """If this fails, Ctrl-C leaves measuring processes that make everything after them slow."""
    note = tmp_path / "pid"
    text = f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    side = harnesses.side(driver, "base", adapter(tmp_path / "root", text), "adapter.py")

    def press():
        while not (note.exists() and note.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), 2)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        driver.measure(side, [])
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_the_conformance_of_a_side_is_a_report(driver, tmp_path):
    """If this fails, `pcbench check` cannot judge a commit, or says nothing while it does."""
    side = harnesses.side(driver, "head", adapter(tmp_path / "root", NOISY), "adapter.py")
    seen = []
    report = driver.check(side, "smoke", 1, ("energy.matches-definition,energy.never-negative",), None,
                          lambda done, total: seen.append((done, total)))  # fmt: skip
    assert report["exit_code"] == 0
    assert [v["outcome"] for v in report["verdicts"]] == ["pass", "pass"]
    assert seen[-1] == (2, 2)
    with pytest.raises(AdapterError, match="no report"):
        driver.check(side, "smoke", 1, ("no-such-law",), None, lambda done, total: None)


def test_sides_that_cannot_be(driver, tmp_path):
    """If this fails, a missing file shows as an import error of a temporary directory."""
    with pytest.raises(UsageError, match="does not exist in base"):
        harnesses.side(driver, "base", tmp_path, "nowhere.py")
    with pytest.raises(UsageError, match="--source lib does not exist"):
        harnesses.side(driver, "base", tmp_path, "a.b:c", ["lib"])
    (tmp_path / "src").mkdir()
    assert harnesses.side(driver, "base", tmp_path, "a.b:c").sources == (str(tmp_path / "src"), str(tmp_path))


def test_the_measuring_program_prints_one_line(driver, tmp_path):
    """If this fails, `python -m pcbench.timing.measure` cannot be read by another program."""
    request = tmp_path / "request.json"
    request.write_text(
        json.dumps({"spec": KNOWN["numpy"].spec, "clock": "cpu", "tasks": [], "root": str(tmp_path), "sources": []})
    )
    command = [sys.executable, "-m", "pcbench.timing.measure", str(request)]
    done = subprocess.run(command, capture_output=True, text=True, env=driver.environment(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout)["manifest"]["name"] == "numpy"


def test_the_host_says_which_library_was_measured(monkeypatch):
    """If this fails, figures of two commits of an adapter cannot be told from those of two versions of its library."""
    monkeypatch.setattr(measure, "origin", lambda library: {"environment": "widgets", "commit": f"abc of {library}"})
    manifest = Manifest(name="w", capabilities=Capabilities(), library="widgets", version="1.2")
    host = measure._host(manifest)
    assert host["versions"]["widgets"] == "1.2"
    assert (host["environment"], host["library_commit"]) == ("widgets", "abc of widgets")


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_rows_name_tasks_that_exist_and_cover_both_shapes():
    """If this fails, a row is never measured, or deep-narrow and wide nets are no longer both among them."""
    assert {row.task for row in ROWS.values()} == set(TASKS)
    shapes = [t.problem for t in TASKS.values() if t.method == "infer"]
    assert any(p.depth >= p.width for p in shapes)
    assert any(p.width >= 64 * p.depth for p in shapes)
    assert all(row.floor > 0 for row in ROWS.values())
    assert [row.name for row in choose(["import", "infer-wide"]).rows] == ["infer-wide", "import"]
    assert set(choose(["import"]).tasks) == {"infer-medium"}
    with pytest.raises(UsageError, match="nothing does not exist: needed some of infer-deep-narrow"):
        choose(["nothing"])


def test_a_task_is_fitted_to_what_is_claimed():
    """If this fails, an implementation is asked for what it says it cannot do."""
    modest = Capabilities(activations=("linear",), dtypes=("float64",))
    problem = adapt_problem(TASKS["infer-wide"].problem, modest)
    assert (problem.activation, problem.dtype, problem.residual) == ("linear", "float64", False)
    after = adapt_problem(
        TASKS["infer-wide"].problem, Capabilities(activations=("relu",), placements=("after-weight",))
    )
    assert (after.activation, after.placement) == ("relu", "after-weight")
    full = Capabilities(activations=("tanh",), dtypes=("float32",), residual=True)
    assert adapt_problem(TASKS["infer-wide"].problem, full) is TASKS["infer-wide"].problem


def test_the_planted_slowdown_is_work_and_changes_no_answer(tmp_path):
    """If this fails, what the gate is proven with is no slowdown, or a wrong implementation."""
    spec = importlib.util.spec_from_file_location("planted", Path(__file__).parents[2] / "ci" / "planted.py")
    assert spec is not None
    assert spec.loader is not None
    planted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(planted)
    plain, slower = InProcess(planted.numpy_plain()), InProcess(planted.numpy_slower())
    case = SMALL.network(), SMALL.input(), SMALL.target()
    for a, b in zip(plain.infer(*case, 10, 0.1).activities, slower.infer(*case, 10, 0.1).activities, strict=True):
        assert np.array_equal(a, b)

    class Counting:
        manifest = planted.numpy_plain().manifest

        def __init__(self):
            self.steps = self.calls = 0

        def infer(self, network, input, target, steps, step_size, start=None):
            self.steps += steps
            return planted.numpy_plain().infer(network, input, target, steps, step_size, start)

        def weight_gradients(self, *arguments):
            self.calls += 1

    counting = Counting()
    wrapped = planted.Planted(counting, 0.2)
    wrapped.infer(*case, 10, 0.1)
    for _ in range(10):
        wrapped.weight_gradients()
    assert (counting.steps, counting.calls) == (12, 12)
