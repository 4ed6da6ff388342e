"""The storeys of the house, enforced: which package may import which, and what an import loads."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pcbench.worker.client import WorkerClient

ROOT = Path(__file__).resolve().parents[2]


def load_program():
    """`ci/house.py`, which holds the storeys."""
    spec = importlib.util.spec_from_file_location("house", ROOT / "ci" / "house.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["house"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROGRAM = load_program()
HOUSE = PROGRAM.read_house(ROOT)
MODULES = HOUSE.modules

# What a package may import of pcbench although it lies on a lower storey, where that is less than all of it.
ONLY = {
    # Two independent roads: they meet only in the laws.
    "oracle": {"errors", "problem"},
    "theory": {"errors", "problem"},
    "reference": {"errors", "problem"},
    # What runs in the interpreter of a third party, or decides what that interpreter is sent: no mathematics of ours.
    "protocol": {"errors", "problem", "version"},
    "worker": {"errors", "problem", "protocol", "version"},
    # An adapter speaks to its library and to nothing else; the reference has no privilege but its own adapters.
    "adapters": {"errors", "environments", "problem", "protocol", "reference", "version"},
    # Files and displays that anybody may use know nothing of predictive coding.
    "output": {"errors"},
    "timing": {"errors", "output", "problem", "protocol", "version", "worker"},
    "environments": {"errors", "output", "version", "worker"},
}

# Third-party libraries by package, or by module where one needs more than the rest of its package.
LIBRARIES = {
    "errors": set(), "version": set(), "plugin": {"pytest"},
    "problem": {"numpy"}, "output": set(), "oracle": {"numpy"}, "theory": {"numpy", "scipy"},
    "reference": {"numpy", "jax", "equinox", "optimistix"}, "protocol": {"numpy"}, "worker": {"numpy"},
    "laws": {"numpy", "scipy"}, "environments": {"packaging"}, "timing": {"numpy"}, "adapters": {"numpy"},
    "report": set(), "properties": {"hypothesis"}, "gate": {"numpy", "rich"}, "conformance": {"numpy"},
    "experiments": {"numpy", "jax", "scipy", "matplotlib"}, "leaderboard": {"numpy", "matplotlib", "rich"},
    "benchmarks": {"numpy", "asv_runner"}, "cli": {"click", "rich", "distributed"},
    "timing.clock": {"jax"}, "output.display": {"rich"},
    "output.drawing": {"numpy", "matplotlib", "scipy"}, "output.table": {"numpy"},
    "report.text": {"rich"}, "report.known_failures": {"packaging"}, "report.matrix_figure": {"matplotlib", "numpy"},
    "adapters.reference": {"numpy", "jax"}, "adapters.reference_architectures": {"numpy", "jax"},
    "adapters.fabricpc": {"numpy", "jax", "fabricpc"}, "adapters.torch": {"numpy", "torch"},
    "adapters.jpc": {"numpy", "jax", "equinox", "optax", "diffrax", "jpc"},
    "adapters.pcx": {"numpy", "jax", "pcx", "optax"}, "adapters.ngclearn": {"numpy", "jax", "ngclearn", "ngcsimlib"},
}  # fmt: skip

# What runs in foreign interpreters: the worker, the program that is timed, and adapters of libraries that live there.
STARTED_ELSEWHERE = (
    "pcbench.worker.serve",
    "pcbench.timing.measure",
    *(name for name in MODULES if name.startswith("pcbench.adapters.") and "reference" not in name),
)
OLDEST = (3, 10)


def modules_loaded_with(names):
    """Every module of pcbench that running these loads, the packages around them included."""
    reached, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            parts = name.split(".")
            todo += [".".join(parts[:k]) for k in range(1, len(parts))]
            todo += PROGRAM.imported_modules(MODULES[name], MODULES, typing=False)
    return reached


FOREIGN = sorted(modules_loaded_with(STARTED_ELSEWHERE))


def names_in(path):
    """Every dotted name that a module imports, inside functions and for type checkers as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def third_party(path):
    return {n.split(".")[0] for n in names_in(path)} - {"pcbench"} - set(sys.stdlib_module_names)


# ---- arrows and circles ---------------------------------------------------------------------------------------------


def test_every_package_has_its_storey():
    """If this fails, a package or a module at the root is new or gone: give it a storey in `ci/house.py`."""
    assert HOUSE.storeys == PROGRAM.STOREYS
    assert set(LIBRARIES) <= {name.removeprefix("pcbench.") for name in MODULES}


def test_the_root_is_the_face():
    """If this fails, a module lies flat at the root again, where nobody finds it."""
    files = {path.name for path in (ROOT / "pcbench").iterdir() if path.is_file()}
    assert files == {"__init__.py", "errors.py", "version.py", "plugin.py", "py.typed"}


def test_no_arrow_goes_up():
    """If this fails, a lower storey knows of an upper one: two ideas are tangled."""
    assert HOUSE.upward == []


def test_there_is_no_circle():
    """If this fails, two packages or modules cannot be understood one after the other."""
    assert HOUSE.package_circles == []
    assert HOUSE.module_circles == []


@pytest.mark.parametrize("name", ONLY)
def test_a_package_imports_only_what_it_may_know(name):
    """If this fails, the two roads to a number meet before the laws, or the harness has learnt mathematics."""
    assert {b for a, b in HOUSE.arrows if a == name} <= ONLY[name]


def test_only_its_own_adapters_know_the_reference():
    """If this fails, the reference has a privilege that no other implementation has."""
    pairs = HOUSE.arrows.get(("adapters", "reference"), [])
    assert {module for module, _ in pairs} == {
        "pcbench.adapters.reference",
        "pcbench.adapters.reference_architectures",
    }


def test_commands_are_imported_by_the_command_line_alone():
    """If this fails, something can only be done by going through a command."""
    shared = {"pcbench.cli.options", "pcbench.cli.sweep_options"}
    commands = {name for name in MODULES if name.startswith("pcbench.cli.")} - shared
    importers = {a for a, targets in HOUSE.imports.items() for b in targets if b in commands}
    assert importers == {"pcbench.cli.main"}


def test_arrows_and_circles_are_seen(tmp_path):
    """If this fails, the tests above pass because the program sees nothing."""
    for name, text in {
        "pcbench/__init__.py": "",
        "pcbench/low/__init__.py": "def f():\n    from pcbench.high import g\n",
        "pcbench/high/__init__.py": "from pcbench.high import one\n",
        "pcbench/high/one.py": "if TYPE_CHECKING:\n    from pcbench.high import two\nfrom pcbench import low\n",
        "pcbench/high/two.py": "import pcbench.high.one\nfrom pcbench.high.one import x as y\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    house = PROGRAM.read_house(tmp_path)
    assert house.package_circles == [["high", "low"]]
    assert ["pcbench.high.one", "pcbench.high.two"] in [
        [name for name in circle if name.count(".") == 2] for circle in house.module_circles
    ]
    assert ("pcbench.low", "pcbench.high") in house.upward
    seen = PROGRAM.imported_modules(tmp_path / "pcbench/high/one.py", house.modules, typing=False)
    assert seen == {"pcbench.low"}
    assert PROGRAM.main(["--root", str(tmp_path)]) == 1


# ---- libraries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_third_party_imports(name):
    """If this fails, a module loads a library that its package must do without."""
    place = name.removeprefix("pcbench.")
    allowed = LIBRARIES.get(place, LIBRARIES.get(PROGRAM.package(name), set()))
    assert third_party(MODULES[name]) <= allowed


def modules_loaded_by(statement):
    code = f"import sys\n{statement}\nprint(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import pcbench", {"jax", "pytest", "hypothesis", "click", "rich", "equinox", "optimistix", "torch"}),
        ("import pcbench.plugin", {"jax", "hypothesis", "rich", "click"}),
        ("import pcbench.worker.serve", {"jax", "pytest", "hypothesis", "click", "rich"}),
        ("import pcbench.laws", {"jax", "pytest", "hypothesis", "click", "rich"}),
        ("import pcbench.cli.main", {"jax", "pytest", "hypothesis"}),
        ("import pcbench.properties", {"jax", "click"}),
        ("import pcbench; pcbench.check", {"jax", "pytest", "hypothesis", "click", "matplotlib"}),
    ],
)
def test_what_an_import_loads(statement, forbidden):
    """If this fails, importing pcbench costs seconds, or fails where a library is not installed."""
    assert not modules_loaded_by(statement) & forbidden


# ---- foreign interpreters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOREIGN)
def test_what_runs_elsewhere_runs_on_python_3_10(name):
    """If this fails, an implementation whose environment has Python 3.10 cannot be tested at all."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"), feature_version=OLDEST)
    newer = {"tomllib", "typing.Self", "typing.override", "typing.assert_never", "typing.Never", "enum.StrEnum",
             "typing.LiteralString", "typing.Required", "typing.NotRequired", "typing.Unpack", "datetime.UTC",
             "contextlib.chdir", "itertools.batched", "hashlib.file_digest", "wsgiref.types", "typing.reveal_type",
             "typing.dataclass_transform", "typing.assert_type", "enum.verify", "operator.call"}  # fmt: skip
    assert not names_in(MODULES[name]) & newer
    assert not [n for n in ast.walk(tree) if isinstance(n, getattr(ast, "TryStar", ()))], "except* is Python 3.11"
    attributes = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not attributes & (newer | {"sys.exception", "math.cbrt", "math.exp2"})
    assert not [a for a in attributes if a.endswith(".add_note")], "notes on exceptions are Python 3.11"


def test_what_runs_elsewhere_is_found():
    """If this fails, the tests above check nothing, or all of pcbench would run in foreign interpreters."""
    assert {"pcbench", "pcbench.problem.network", "pcbench.worker.frames", "pcbench.protocol.loading"} <= set(FOREIGN)
    mathematics = ("pcbench.laws", "pcbench.oracle", "pcbench.theory", "pcbench.reference", "pcbench.conformance")
    assert not [name for name in FOREIGN if name.startswith(mathematics)]


def find_oldest():
    """An interpreter of the oldest version that a library may live in, of those that are at hand, or None."""
    names = [os.environ.get("OTHER_PYTHON", ""), shutil.which("python3.10") or ""]
    names += map(str, Path.home().glob(".pyenv/versions/3.10*/bin/python"))
    for name in filter(None, names):
        code = "import sys, numpy; print(*sys.version_info[:2])"
        done = subprocess.run([name, "-c", code], capture_output=True, text=True, timeout=60)
        if done.returncode == 0 and tuple(map(int, done.stdout.split())) == OLDEST:
            return name
    return None


def test_a_worker_runs_on_the_oldest_python():
    """If this fails, a library that lives in Python 3.10 cannot be judged; elsewhere the syntax alone is checked."""
    python = find_oldest()
    if python is None:
        pytest.skip("no Python 3.10 with NumPy here (OTHER_PYTHON names one): its syntax is checked above")
    with WorkerClient("pcbench.adapters.numpy", python) as client:
        assert client.info["python"].startswith("3.10.")
        assert client.manifest.name == "numpy"


def test_the_checker_sees_imports(tmp_path):
    """If this fails, the tests above pass because they find no imports."""
    source = tmp_path / "m.py"
    source.write_text(
        "import numpy as np\nimport pcbench\nfrom pcbench import theory\nfrom pcbench.laws.definition import Law\n"
        "def f():\n    import jax.numpy\n    importlib.import_module('rich.table')\n"
    )
    assert third_party(source) == {"numpy", "jax", "rich"}
    assert PROGRAM.imported_modules(source, MODULES) == {"pcbench", "pcbench.theory", "pcbench.laws.definition"}
