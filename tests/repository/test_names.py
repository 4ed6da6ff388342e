"""Names that mislead: a module called like a function, a package that is not installed, a test that is nowhere."""

import ast
import importlib
import pkgutil
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(ROOT / "pcbench").rglob("*.py"), *(ROOT / "properties").rglob("*.py")])


def functions_at_top(path):
    """The functions and classes that a module defines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_shares_its_name_with_a_function(path):
    """If this fails, `from package import name` gives a module or a function, depending on what was imported before."""
    # `main` of `cli/main.py` is the name under which every program starts.
    assert path.stem not in functions_at_top(path) - {"main"}


@pytest.mark.parametrize("name", ["pcbench.laws", "pcbench.theory", "pcbench.properties", "pcbench.reference"])
def test_what_a_package_exports_hides_none_of_its_modules(name):
    """If this fails, the function that a package exports has the name of one of its own modules."""
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(package.__path__):
        own = importlib.import_module(f"{name}.{module.name}")
        assert getattr(package, module.name) is own, module.name


def test_every_package_is_installed():
    """If this fails, a wheel lacks a package that the checkout has."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["tool"]["setuptools"]["packages"]
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in SOURCES if p.name == "__init__.py"}
    assert set(listed) == {"pcbench.properties" if name == "properties" else name for name in found}
    assert listed == sorted(listed)


def test_tests_mirror_the_package():
    """If this fails, a folder of tests is of a package that is not there."""
    folders = {p.parent.relative_to(ROOT / "tests") for p in (ROOT / "tests").rglob("test_*.py")} - {Path()}
    # `repository` holds what is true of the repository as a whole.
    missing = [f for f in folders if not (ROOT / "pcbench" / f).is_dir() and str(f) not in ("properties", "repository")]
    assert missing == []
