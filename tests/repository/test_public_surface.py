"""The public names of `pcbench`: adding or removing one is a decision, made here as well."""

import importlib

import pytest

import pcbench

PUBLIC = [
    "Architecture",
    "Capabilities",
    "Conventions",
    "Equilibrium",
    "Exponents",
    "Implementation",
    "Inference",
    "Manifest",
    "Network",
    "PcbenchError",
    "Problem",
    "Report",
    "check",
]


def test_public_names():
    """If this fails, the surface that users depend on has changed."""
    assert sorted(n for n in pcbench.__all__ if not n.startswith("_")) == PUBLIC
    assert dir(pcbench) == sorted(pcbench.__all__)
    assert isinstance(pcbench.__version__, str)


def test_adapters_that_were_scaffolded_before_find_what_they_import():
    """If this fails, the adapter in somebody's repository breaks with a new version of pcbench."""
    implementation, network = (importlib.import_module(f"pcbench.{name}") for name in ("implementation", "network"))
    assert implementation.Manifest is pcbench.Manifest
    assert network.Network is pcbench.Network


def test_a_name_that_is_not_there_is_an_attribute_error():
    """If this fails, `hasattr(pcbench, ...)` raises, and a misspelt name is reported as something else."""
    with pytest.raises(AttributeError, match="module 'pcbench' has no attribute 'chekc'"):
        _ = pcbench.chekc


def test_public_names_have_docstrings():
    """If this fails, `help(pcbench.X)` says nothing."""
    for name in PUBLIC:
        assert (getattr(pcbench, name).__doc__ or "").strip(), name


def test_errors_are_builtin_errors_too():
    """If this fails, code that catches ValueError or RuntimeError does not catch pcbench's."""
    from pcbench import errors

    builtin = (ValueError, ImportError, RuntimeError)
    classes = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, pcbench.PcbenchError)]
    assert len(classes) >= 10
    for cls in classes:
        assert cls is pcbench.PcbenchError or issubclass(cls, builtin), cls
