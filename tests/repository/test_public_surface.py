"""The public names of `pcbench`: adding or removing one is a decision, made here as well."""

import pcbench

PUBLIC = [
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
]


def test_public_names():
    """If this fails, the surface that users depend on has changed."""
    modules = type(pcbench)
    names = [n for n, v in vars(pcbench).items() if not n.startswith("_") and not isinstance(v, modules)]
    assert sorted(names) == PUBLIC
    assert isinstance(pcbench.__version__, str)


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
