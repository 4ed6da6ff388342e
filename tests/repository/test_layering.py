"""The layer table of the architecture, enforced: which module may import which, and what an import loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Module or package -> layer; a package stands for all its modules.
LAYERS = {
    "errors": 0, "numerics": 0, "version": 0,
    "arrays": 1, "parameterisation": 1, "network": 1, "problem": 1, "architecture": 1,
    "architecture_problem": 1, "provenance": 1, "machine": 1, "json_lines": 1, "environments": 1,
    "oracle": 2, "rounding": 2, "theory": 2, "oracle_architectures": 2, "running_error": 2,
    "implementation": 3, "subject": 3, "frames": 3, "calling": 3, "launching": 3, "loading": 3, "worker": 3,
    "client": 3, "limits": 3, "reference": 3,
    "laws": 4,
    "adapters": 5, "strategies": 5, "plugin": 5, "plugin_run": 5, "report": 5, "report_files": 5,
    "report_text": 5, "evidence": 5, "profiles": 5, "runner": 5, "runner_process": 5, "journal": 5,
    "judging": 5, "known_failures": 5, "progress": 5, "conventions": 5,
    "placing": 5, "properties": 5, "architecture_strategies": 5, "environment_making": 5, "pip_log": 5,
    "interpreters": 5,
    "benchmarks": 6, "experiments": 6, "cli": 6, "cli_catalogue": 6, "cli_compare": 6, "cli_gate": 6, "cli_options": 6,
    "cli_bench": 6, "cli_env": 6, "leaderboard": 6, "cli_matrix": 6, "matrix": 6, "matrix_run": 6,
    "cli_phase": 6, "cli_replay": 6, "cli_scaling": 6, "cli_speed": 6, "cli_sweep": 6, "gating": 6,
    "cli_conventions": 6,
}  # fmt: skip

# Two independent roads: they meet only in the laws.
NEVER = [
    ({"oracle", "rounding", "oracle_architectures", "running_error"}, {"theory"}),
    ({"theory"}, {"oracle", "rounding", "oracle_architectures", "running_error"}),
    ({"reference"}, {"oracle", "rounding", "theory", "oracle_architectures", "running_error"}),
]
# What runs in the interpreter of a third party, or decides what that interpreter is sent: no mathematics of ours.
HARNESS = {
    "implementation", "frames", "calling", "launching", "limits", "loading", "worker", "client", "subject",
}  # fmt: skip
FOREIGN = {
    "errors", "arrays", "parameterisation", "network", "implementation", "frames", "calling", "limits", "loading",
    "worker", "architecture", "gating.__init__", "gating.measure", "provenance", "environments", "adapters.__init__",
}  # fmt: skip

# Third-party libraries by module or package; whatever is not listed has NumPy only.
LIBRARIES = {
    "errors": set(), "version": set(), "parameterisation": set(), "launching": set(), "loading": set(),
    "placing": set(), "limits": set(), "worker": {"numpy"}, "provenance": set(), "environments": set(),
    "interpreters": set(), "machine": set(), "json_lines": set(),
    "environment_making": {"packaging"}, "pip_log": {"packaging"}, "cli_env": {"click", "rich"},
    "reference": {"numpy", "jax", "equinox", "optimistix"},
    "strategies": {"hypothesis"}, "architecture_strategies": {"hypothesis"},
    "properties": {"hypothesis"}, "plugin": {"pytest"}, "plugin_run": set(),
    "theory": {"numpy", "scipy"}, "laws": {"numpy", "scipy"},
    "evidence": set(), "journal": set(), "profiles": set(), "report": set(), "report_files": set(),
    "report_text": {"rich"}, "progress": {"rich"}, "runner": set(), "runner_process": set(), "judging": set(),
    "known_failures": {"packaging"},
    "cli": {"click", "rich"}, "cli_bench": {"click", "rich"}, "leaderboard": {"numpy", "matplotlib", "rich"},
    "cli_catalogue": {"click", "rich"}, "cli_compare": {"click", "rich"}, "cli_conventions": {"click", "rich"},
    "conventions": set(),
    "cli_gate": {"click"}, "cli_matrix": {"click", "rich"}, "matrix": set(), "matrix_run": set(),
    "cli_options": {"click"}, "cli_phase": {"click", "rich"}, "cli_scaling": {"click", "rich"},
    "cli_speed": {"click", "rich"}, "cli_sweep": {"click", "distributed"}, "cli_replay": {"click", "rich"},
    "gating": {"numpy", "rich"},
    "experiments": {"numpy", "jax", "matplotlib", "rich", "scipy"},
}  # fmt: skip
# An adapter imports its own library, under the name it is imported by, and NumPy.
ADAPTERS = {
    "__init__": set(), "numpy": set(), "template": set(), "template_files": set(), "reference": {"jax"},
    "reference_architectures": {"jax"},
    "fabricpc": {"jax", "fabricpc"}, "torch": {"torch"}, "torch2pc": set(), "preco": set(), "pctrainer": set(),
    "jpc": {"jax", "equinox", "optax", "diffrax", "jpc"},
    "pcx": {"jax", "pcx", "optax"}, "pcx_cnn": set(), "ngclearn": {"jax", "ngclearn", "ngcsimlib"},
}  # fmt: skip
ANY = {"numpy"}


def sources():
    """(dotted name below pcbench, path) of every module."""
    for path in sorted((ROOT / "pcbench").rglob("*.py")):
        yield ".".join(path.relative_to(ROOT / "pcbench").with_suffix("").parts), path
    for path in sorted((ROOT / "properties").rglob("*.py")):
        yield ".".join(("properties", *path.relative_to(ROOT / "properties").with_suffix("").parts)), path


MODULES = dict(sources())


def imported(path):
    """Every dotted name that a module imports, inside functions and under TYPE_CHECKING as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def within_pcbench(path):
    """First parts, below pcbench, of the pcbench modules that a module imports."""
    names = {n for n in imported(path) if n == "pcbench" or n.startswith("pcbench.")}
    return {n.split(".")[1] if "." in n else "" for n in names}


def third_party(path):
    return {n.split(".")[0] for n in imported(path)} - {"pcbench"} - set(sys.stdlib_module_names)


def place(name):
    return name.split(".")[0]


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_lower_layers_only(name):
    """If this fails, a lower layer knows of an upper one: the two roads to a number, or two ideas, are tangled."""
    if name == "__init__":
        assert max(LAYERS.get(n, 0) for n in within_pcbench(MODULES[name])) <= 3
        return
    own = place(name)
    assert own in LAYERS, f"{name} has no place in the table of layers: give it one"
    for other in within_pcbench(MODULES[name]):
        assert other in LAYERS or other == "__version__" or (not other and LAYERS[own] >= 5), (name, other)
        assert LAYERS.get(other, 0) <= LAYERS[own], f"{name} (layer {LAYERS[own]}) imports {other}"
        for importers, forbidden in NEVER:
            assert not (own in importers and other in forbidden), f"{name} imports {other}"
        if own in HARNESS:
            assert LAYERS.get(other, 0) in (0, 1, 3), f"{name} imports {other}: the harness knows no mathematics"
            assert other != "reference", f"{name} imports the reference, which has no privilege"
        if own == "reference":
            assert other == own or LAYERS[other] <= 1, f"{name} imports {other}"
        if own == "adapters":
            assert other == own or LAYERS[other] <= 1 or other in ("implementation", "reference"), (name, other)
            assert other != "reference" or name.startswith("adapters.reference"), f"{name} imports the reference"


def test_every_place_is_taken():
    """If this fails, the table speaks of modules that are gone."""
    present = {place(name) for name in MODULES} - {"__init__"}
    assert present == set(LAYERS)
    assert set(LIBRARIES) <= set(LAYERS)
    assert set(ADAPTERS) == {n.split(".")[1] for n in MODULES if n.startswith("adapters.")}


@pytest.mark.parametrize("name", MODULES)
def test_third_party_imports(name):
    """If this fails, a module loads a library that its layer must do without."""
    allowed = LIBRARIES.get(place(name), ANY)
    if place(name) == "adapters":
        allowed = ANY | ADAPTERS[name.split(".")[1]]
    assert third_party(MODULES[name]) <= allowed


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_worker_side_runs_on_python_3_10(name):
    """If this fails, an implementation whose environment has Python 3.10 cannot be tested at all."""
    text = MODULES[name].read_text()
    tree = ast.parse(text, feature_version=(3, 10))
    names = imported(MODULES[name])
    newer = {"tomllib", "typing.Self", "typing.override", "typing.assert_never", "typing.Never", "enum.StrEnum",
             "typing.LiteralString", "typing.Required", "typing.NotRequired", "typing.Unpack", "datetime.UTC",
             "contextlib.chdir", "itertools.batched", "hashlib.file_digest", "wsgiref.types", "typing.reveal_type",
             "typing.dataclass_transform", "typing.assert_type", "enum.verify", "operator.call"}  # fmt: skip
    assert not names & newer
    assert not [n for n in ast.walk(tree) if isinstance(n, getattr(ast, "TryStar", ()))], "except* is Python 3.11"
    attributes = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not attributes & (newer | {"sys.exception", "math.cbrt", "math.exp2"})
    assert not [a for a in attributes if a.endswith(".add_note")], "notes on exceptions are Python 3.11"


def test_the_worker_loads_only_what_is_checked_for_python_3_10():
    """If this fails, the worker imports a module that nobody keeps compatible with Python 3.10."""
    reached, todo = set(), ["worker"]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            for other in within_pcbench(MODULES[name]):
                todo += [other] if other in MODULES else []
    assert reached <= FOREIGN | {"version"}


def loaded_by(statement):
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
        ("import pcbench.properties.mlp", {"jax", "click", "rich"}),
    ],
)
def test_what_an_import_loads(statement, forbidden):
    """If this fails, importing pcbench costs seconds, or fails where a library is not installed."""
    assert not loaded_by(statement) & forbidden


def test_the_checker_sees_imports(tmp_path):
    """If this fails, the tests above pass because they find no imports."""
    source = tmp_path / "m.py"
    source.write_text(
        "import numpy as np\nimport pcbench\nfrom pcbench import theory\nfrom pcbench.laws.law import Law\n"
        "def f():\n    import jax.numpy\n    importlib.import_module('rich.table')\n"
    )
    assert within_pcbench(source) == {"", "theory", "laws"}
    assert third_party(source) == {"numpy", "jax", "rich"}
