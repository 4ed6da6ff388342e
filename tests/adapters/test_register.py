r"""The register of adapters, the NumPy network, the scaffold of new adapters, and the libraries' absence.

Expectations are central differences of an implementation's own energy and identities of the theory, never what another
implementation returns.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pcbench.adapters.numpy import implementation
from pcbench.adapters.register import KNOWN, known_failures_file, resolve, timing_spec
from pcbench.adapters.scaffold.adapter import scaffold_files
from pcbench.errors import MissingLibraryError, UsageError
from pcbench.laws import REGISTRY
from pcbench.problem.mlp import Problem
from pcbench.problem.network import ACTIVATIONS
from pcbench.protocol.implementation import OPTIONAL_METHODS, Manifest, methods_of
from pcbench.protocol.loading import load
from pcbench.report import known_failures

NUMPY = implementation()
BASE = Problem(input_dim=3, width=4, depth=4, output_dim=2, batch=3, seed=11)
SMOOTH = [a for a in ACTIVATIONS if a != "relu"]
SETTINGS = [
    {"residual": True},
    {"loss": "ce", "output_precision": 0.4},
    {"output_precision": 2.5, "output_multiplier": 3.0, "parameterisation": "ntp"},
    {"depth": 2},
    *({"activation": a, "residual": True} for a in ACTIVATIONS),
    *({"activation": a, "placement": "after-weight", "residual": True} for a in ACTIVATIONS if a != "linear"),
    {"activation": "gelu", "placement": "after-weight", "loss": "ce", "output_precision": 1.7},
]


def case(**changes):
    """Network, input, target and random activities of a small problem, every array read-only."""
    problem = BASE.replace(**changes)
    network, x, y, z = problem.network(), problem.input(), problem.target(), problem.activities()
    for array in (*network.weights, x, y, *z):
        array.setflags(write=False)
    return network, x, y, z


def central(function, array, h=1e-6):
    """Central differences of a scalar function of an array, entry by entry: error about h² + 1e-16/h."""
    result = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        up, down = np.array(array), np.array(array)
        up[index] += h
        down[index] -= h
        result[index] = (function(up) - function(down)) / (2 * h)
    return result


def check_gradients(adapter, network, x, y, z):
    """Both gradients against differences of the same adapter's energy; 1e-7 is 1000 times what the differences lose."""
    for l, gradient in enumerate(adapter.weight_gradients(network, x, y, z)):

        def of_weight(W, l=l):
            weights = [*network.weights[:l], W, *network.weights[l + 1 :]]
            return adapter.energy(network.with_weights(weights), x, y, z)

        np.testing.assert_allclose(gradient, central(of_weight, network.weights[l]), atol=1e-7, rtol=1e-6)
    for l, gradient in enumerate(adapter.activity_gradients(network, x, y, z)):

        def of_activity(a, l=l):
            return len(x) * adapter.energy(network, x, y, [*z[:l], a, *z[l + 1 :]])

        np.testing.assert_allclose(gradient, central(of_activity, z[l]), atol=1e-7, rtol=1e-6)


# ---- the register ---------------------------------------------------------------------------------------------------


def test_known_adapters_resolve_to_files_of_the_package_with_such_a_factory():
    """If this fails, a name in the register leads nowhere, and `pcbench check NAME` cannot start."""
    for name, entry in KNOWN.items():
        assert entry.name == name
        assert entry.description
        assert entry.probe
        assert resolve(name) == entry.spec
        module, _, attribute = entry.spec.partition(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        with open(spec.origin, encoding="utf-8") as source:
            assert f"def {attribute}(" in source.read()


@pytest.mark.parametrize(
    "spec",
    ["my.package:factory", "package.module", "module:Class", "a/b.py", "b.py:make", "C:\\work\\b.py", "C:\\b.py:make"],
)
def test_specs_pass_through(spec):
    """If this fails, someone's own implementation cannot be named on the command line."""
    assert resolve(spec) == spec


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("nunpy", "did you mean 'numpy'"), ("FabricPC-muPC ", "did you mean 'fabricpc-mupc'"), ("zzz", "Known are")],
)
def test_unknown_name_lists_the_known_ones(typed, hint):
    """If this fails, a misspelt name gives no way forward."""
    with pytest.raises(UsageError) as caught:
        resolve(typed)
    assert hint in str(caught.value)
    assert typed in str(caught.value)
    assert all(name in str(caught.value) for name in KNOWN)
    assert "path/to/file.py" in str(caught.value)


def test_what_is_timed_is_the_same_implementation():
    """If this fails, benchmarks time a program that answers thousands of small questions, or another implementation."""
    spec = KNOWN["reference"].spec
    quick, usual = load(timing_spec(spec)), load(spec)
    assert timing_spec(spec) != spec
    assert quick.manifest == usual.manifest
    assert timing_spec(KNOWN["numpy"].spec) == KNOWN["numpy"].spec
    assert timing_spec("mine.py:Twice") == "mine.py:Twice"


@pytest.mark.parametrize("text", ["", "a b", ":attribute", "package.module:", "a-b.c:d", "x.py:not an attribute"])
def test_what_is_neither_name_nor_spec_is_refused(text):
    """If this fails, a typing error reaches the worker as a module name."""
    with pytest.raises(UsageError, match="is not known"):
        resolve(text)


def test_register_and_manifests_import_no_library():
    """If this fails, `pcbench adapters` pays for, or breaks on, libraries that are not being tested."""
    code = (
        "import sys; import pcbench.adapters, pcbench.adapters.fabricpc, pcbench.adapters.scaffold.adapter\n"
        "import pcbench.adapters.jpc, pcbench.adapters.numpy, pcbench.adapters.pcx, pcbench.adapters.ngclearn\n"
        "import pcbench.adapters.torch, pcbench.adapters.preco\n"
        "assert not {'jax', 'torch', 'fabricpc', 'jpc', 'pcx', 'ngclearn', 'pytest', 'pcbench.oracle', 'pcbench.laws'} "
        "& set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ---- the NumPy network ----------------------------------------------------------------------------------------------


def test_numpy_offers_every_method_but_compilations():
    """If this fails, laws about an optional method silently lose their second independent implementation."""
    assert set(methods_of(NUMPY)) == set(OPTIONAL_METHODS) - {"compilations"}
    assert Manifest.from_json(NUMPY.manifest.to_json()) == NUMPY.manifest


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_numpy_gradients_are_those_of_its_energy(changes):
    """If this fails, its energy and its gradients belong to different models."""
    check_gradients(NUMPY, *case(**changes))


def test_numpy_energy_by_hand():
    r"""A factor in the energy would cancel in the gradient test: one number from the formula itself.

    One unit everywhere, weights 2 and 3, scalings from `sp`, x = 1, z = 5, y = 7: errors 5 - 2 and 7 - 15, so
    F = ½·9 + λ·½·64.
    """
    problem = BASE.replace(input_dim=1, width=1, depth=2, output_dim=1, batch=2, parameterisation="sp")
    network = problem.replace(output_precision=0.5).network().with_weights([np.full((1, 1), 2.0), np.full((1, 1), 3.0)])
    x, z, y = (np.full((2, 1), v) for v in (1.0, 5.0, 7.0))
    assert NUMPY.energy(network, x, y, [z]) == 4.5 + 16.0
    np.testing.assert_array_equal(NUMPY.layer_energies(network, x, y, [z]), [4.5, 16.0])


def test_numpy_cross_entropy_by_hand():
    """At logits 0 the cross-entropy of K classes is log K, whatever the class: E = λ log 2 with zero weights."""
    network, x, y, z = case(loss="ce", weight_law="zero", output_precision=0.3)
    energies = NUMPY.layer_energies(network, x, y, z)
    np.testing.assert_allclose(energies[-1], 0.3 * np.log(2), rtol=1e-14)


@pytest.mark.parametrize(
    "changes",
    [{}, {"residual": True, "output_precision": 0.2}, {"loss": "ce"}, {"depth": 2}, {"depth": 12, "residual": True}]
    + [{"activation": a, "residual": True, "width": 6} for a in SMOOTH]
    + [{"activation": a, "placement": "after-weight", "loss": "ce"} for a in SMOOTH if a != "linear"],
    ids=str,
)
def test_numpy_equilibrium_is_stationary_and_below_the_loss(changes):
    """If this fails, its solver stops early: no law about equilibria could be judged on it."""
    network, x, y, _ = case(**changes)
    answer = NUMPY.equilibrium(network, x, y)
    z = list(answer.activities)
    assert answer.outcome == "converged"
    feedforward = list(NUMPY.infer(network, x, y, 0, 0.1).activities)
    before = np.concatenate(NUMPY.activity_gradients(network, x, y, feedforward), axis=1)
    after = np.concatenate(NUMPY.activity_gradients(network, x, y, z), axis=1)
    # Stationary to a thousand units of rounding of the gradient that inference starts from.
    assert np.linalg.norm(after) <= 1e3 * np.finfo(float).eps * np.linalg.norm(before)
    assert answer.energy == NUMPY.energy(network, x, y, z)
    assert NUMPY.energy(network, x, y, z) < NUMPY.energy(network, x, y, feedforward)


def test_numpy_linear_equilibrium_agrees_with_a_dense_solve():
    """The activity-space normal equations, assembled from the gradients themselves, know nothing of error space."""
    network, x, y, z = case(residual=True, output_precision=1.7, depth=5)
    sizes = [a.size for a in z]
    assert sum(sizes) < 60

    def gradient(flat):
        parts = [p.reshape(a.shape) for p, a in zip(np.split(flat, np.cumsum(sizes)[:-1]), z, strict=True)]
        return np.concatenate([g.ravel() for g in NUMPY.activity_gradients(network, x, y, parts)])

    constant = gradient(np.zeros(sum(sizes)))
    hessian = np.stack([gradient(e) - constant for e in np.eye(sum(sizes))], axis=1)
    expected = np.linalg.solve(hessian, -constant)
    found = np.concatenate([a.ravel() for a in NUMPY.equilibrium(network, x, y).activities])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max() * np.linalg.cond(hessian))


def test_numpy_relu_solver_admits_that_it_stalled():
    """At a kink no gradient vanishes: an equilibrium it cannot certify must not be called converged."""
    outcomes = set()
    for seed in range(4):
        network, x, y, _ = case(activation="relu", width=8, batch=4, seed=seed, parameterisation="ntp")
        answer = NUMPY.equilibrium(network, x, y)
        gradients = NUMPY.activity_gradients(network, x, y, list(answer.activities))
        stationary = max(np.abs(g).max() for g in gradients) < 1e-9
        assert (answer.outcome == "converged") == stationary
        outcomes.add(answer.outcome)
    assert "stalled" in outcomes  # otherwise the seeds show nothing


@pytest.mark.parametrize(
    "changes", [{}, {"activation": "tanh", "placement": "after-weight", "residual": True}], ids=str
)
def test_numpy_variants_give_the_gradient_of_backpropagation(changes):
    """Fixed predictions and zero-divergence inference give the gradient of λ·loss exactly, here by differences."""
    network, x, y, _ = case(**changes, output_precision=0.7)

    def loss(network):
        return NUMPY.energy(network, x, y, list(NUMPY.infer(network, x, y, 0, 0.1).activities))

    for method in (NUMPY.fixed_prediction_gradients, NUMPY.zero_divergence_gradients):
        for l, gradient in enumerate(method(network, x, y)):
            expected = central(
                lambda W, l=l: loss(network.with_weights([*network.weights[:l], W, *network.weights[l + 1 :]])),
                network.weights[l],
            )
            np.testing.assert_allclose(gradient, expected, atol=1e-7, rtol=1e-6)


def test_numpy_training_takes_the_stated_number_of_steps():
    """One update moves every weight by minus rate times its gradient after inference; two updates are one and one."""
    network, x, y, _ = case(activation="tanh")
    z = list(NUMPY.infer(network, x, y, 5, 0.1).activities)
    once = NUMPY.train(network, x, y, 1, 0.3, 5, 0.1)
    for W, g, new in zip(network.weights, NUMPY.weight_gradients(network, x, y, z), once, strict=True):
        np.testing.assert_allclose((W - new) / 0.3, g, atol=1e-14)
    twice = NUMPY.train(network.with_weights(once), x, y, 1, 0.3, 5, 0.1)
    for a, b in zip(NUMPY.train(network, x, y, 2, 0.3, 5, 0.1), twice, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_numpy_answers_in_the_dtype_of_the_network_and_writes_into_nothing(dtype, activation):
    """If this fails, float32 is silently computed in float64 (or an input, all read-only here, was overwritten)."""
    network, x, y, z = case(activation=activation, dtype=dtype, residual=True, loss="ce")
    arrays = [
        NUMPY.predict(network, x),
        *NUMPY.infer(network, x, y, 3, 0.1, z).activities,
        *NUMPY.weight_gradients(network, x, y, z),
        *NUMPY.activity_gradients(network, x, y, z),
        *NUMPY.equilibrium(network, x, y).activities,
        *NUMPY.train(network, x, y, 1, 0.1, 2, 0.1),
        *NUMPY.fixed_prediction_gradients(network, x, y),
        *NUMPY.zero_divergence_gradients(network, x, y),
    ]
    assert {a.dtype for a in arrays} == {np.dtype(dtype)}


def test_a_flat_target_is_refused():
    """If this fails, a target of shape (batch,) is stretched to (batch, batch) and the energy is another one."""
    network, x, y, z = case(output_dim=1)
    text = scaffold_files("flat")["flat_adapter.py"]
    space: dict = {"__name__": "flat_adapter"}
    exec(compile(text, "flat_adapter.py", "exec"), space)
    for adapter in (NUMPY, space["implementation"]()):
        with pytest.raises(ValueError, match="target of shape"):
            adapter.energy(network.folded(), x, y[:, 0], z)


# ---- the scaffold ---------------------------------------------------------------------------------------------------


def test_scaffold_is_an_adapter_whose_gradients_are_those_of_its_energy(tmp_path):
    """If this fails, the first thing a new user runs fails."""
    files = scaffold_files("My-PC")
    assert not [name for name, text in files.items() if re.search(r"@[A-Z]+@", name + text)]
    name = "my_pc_adapter.py"
    text = files[name]
    assert "--python PATH" in text
    path = tmp_path / name
    path.write_text(text)
    adapter = runpy.run_path(str(path))["implementation"]()
    assert adapter.manifest.name == "My-PC"
    for activation in adapter.manifest.capabilities.activations:
        network, x, y, z = case(activation=activation)
        network = network.folded()
        check_gradients(adapter, network, x, y, z)
        assert adapter.predict(network, x).shape == y.shape
        # One step of inference is minus the step size times the gradient, and none is the feedforward pass.
        moved = adapter.infer(network, x, y, 1, 0.1, z).activities
        for a, b, g in zip(z, moved, adapter.activity_gradients(network, x, y, z), strict=True):
            np.testing.assert_allclose((a - b) / 0.1, g, atol=1e-13)
        start = list(adapter.infer(network, x, y, 0, 0.1).activities)
        loss = 0.5 * np.sum((y - adapter.predict(network, x)) ** 2) / len(x)
        np.testing.assert_allclose(adapter.energy(network, x, y, start), loss, rtol=1e-14)


def test_scaffold_names_its_files_from_the_top_of_the_repository():
    """If this fails, the commands of the workflow do not find the adapter that is not at the top."""
    files = scaffold_files("My-PC", "tests/pc")
    folder, workflow = "tests/pc/", files.pop(".github/workflows/pcbench.yml")
    names = ["my_pc_adapter.py", "my_pc-known-failures.json", "test_my_pc_conformance.py"]
    assert list(files) == [folder + name for name in names]
    for name in names:  # and no name without its folder
        assert workflow.count(name) == workflow.count(folder + name) > 0, name
    assert list(scaffold_files("My-PC", workflow=False)) == names
    with pytest.raises(UsageError, match="directory 'a b/'"):
        scaffold_files("My-PC", "a b")


@pytest.mark.parametrize("name", ["", "9lives", "---", "größe", "???", 'my"pc', "a\\n", "a\nb"])
def test_scaffold_refuses_names_that_make_no_module(name):
    """If this fails, `pcbench new-adapter` writes a file that cannot be imported."""
    with pytest.raises(UsageError, match="adapter name"):
        scaffold_files(name)


# ---- other libraries ------------------------------------------------------------------------------------------------

LIBRARIES = [name for name, entry in KNOWN.items() if entry.install and entry.probe != "jpc"]  # which is below


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_is_named_with_how_to_install_it(name):
    """If this fails, a user without the library sees a traceback instead of the command that helps."""
    entry = KNOWN[name]
    if importlib.util.find_spec(entry.probe) is not None:
        pytest.skip(f"{entry.probe} is installed here")
    module, _, attribute = entry.spec.partition(":")
    with pytest.raises(MissingLibraryError, match=r"pip install") as caught:
        getattr(importlib.import_module(module), attribute)()
    assert f"check {entry.probe}" in str(caught.value)
    assert "--python" in str(caught.value)
    assert entry.install in str(caught.value)


@pytest.mark.parametrize("name", ["pcx", "ngclearn"])
def test_adapter_answers_by_the_gradients_of_its_own_energy(name):
    """Where the library is installed: central differences of its energy, and one step along them.

    Skipped elsewhere; `pcbench check NAME --python PATH` judges the adapter there by all laws.
    """
    entry = KNOWN[name]
    pytest.importorskip(entry.probe)
    module, _, attribute = entry.spec.partition(":")
    adapter = getattr(importlib.import_module(module), attribute)()
    c = adapter.manifest.conventions
    assert Manifest.from_json(adapter.manifest.to_json()) == adapter.manifest
    network, x, y, z = case(activation="tanh", residual=True, output_precision=0.4)
    network = network.folded()

    def energy(network, z):
        return adapter.energy(network, x, y, z) / c.energy_factor

    for l, gradient in enumerate(adapter.weight_gradients(network, x, y, z)):
        expected = central(
            lambda W, l=l: energy(network.with_weights([*network.weights[:l], W, *network.weights[l + 1 :]]), z),
            network.weights[l],
        )
        found = c.gradient_sign * (gradient.T if c.weight_layout == "in-out" else gradient)
        np.testing.assert_allclose(found, expected, atol=1e-7, rtol=1e-6)
    moved = adapter.infer(network, x, y, 1, 0.1, z).activities
    for l, (before, after) in enumerate(zip(z, moved, strict=True)):
        slope = central(lambda a, l=l: energy(network, [*z[:l], a, *z[l + 1 :]]), before)
        np.testing.assert_allclose((before - after) / 0.1, slope, atol=1e-7, rtol=1e-6)


# ---- jpc ------------------------------------------------------------------------------------------------------------

JPC_FACTORIES = [entry.spec.partition(":")[2] for entry in KNOWN.values() if entry.probe == "jpc"]


@pytest.mark.parametrize("factory", JPC_FACTORIES)
def test_jpc_says_which_environment_it_needs(factory, monkeypatch):
    """If this fails, JAX 0.6 or later gives a traceback about `jaxlib.xla_extension` instead of what to do."""
    from pcbench.adapters import jpc

    def import_module(name):
        raise ModuleNotFoundError("No module named 'jaxlib.xla_extension'", name="jaxlib.xla_extension")

    monkeypatch.setattr(jpc, "import_module", import_module)
    with pytest.raises(MissingLibraryError, match=r"jaxlib\.xla_extension") as caught:
        getattr(jpc, factory)()
    for needed in ("jax>=0.4.38,<=0.5.2", "pcbench env create jpc", "--python"):
        assert needed in str(caught.value)


def test_jpc_tells_older_code_of_the_same_number(monkeypatch, tmp_path):
    """If this fails, the tag 1.0.0, whose functions have other names, fails at its first question without a reason."""
    from pcbench.adapters import jpc

    modules = {"jpc": SimpleNamespace(update_activities=None), "jax": SimpleNamespace(__version__="0.5.2")}
    monkeypatch.setattr(jpc, "import_module", lambda name: modules.get(name, SimpleNamespace()))
    (tmp_path / "jpc-1.0.0.dist-info").mkdir()
    (tmp_path / "jpc-1.0.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: jpc\nVersion: 1.0.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingLibraryError, match=r"has no update_pc_activities.*jpc 1\.0\.0 as of July 2026"):
        jpc.implementation()


@pytest.mark.parametrize("param_type", ["sp", "ntp", "mupc"])
def test_jpc_gets_the_weights_of_its_own_parameterisation_as_they_are(param_type):
    """If this fails, the adapter scales the weights itself, and a wrong scaling of jpc's would go unseen."""
    from pcbench.adapters.jpc import remainders

    network = BASE.replace(residual=True, parameterisation=param_type, output_multiplier=4.0).network()
    assert remainders(network, param_type, 4.0) == [1.0] * network.depth
    # Without gamma it is all that is left; the powers of two make it exact.
    assert remainders(network, param_type, None) == [1.0] * (network.depth - 1) + [0.25]


def test_jpc_gets_what_is_left_of_other_scalings():
    """By hand: D = 3, N = 4, L = 4 with skips; 1/sqrt(3), 1/4, 1/4 and 1/4 are muPC's, so 1 over them is left of sp."""
    from pcbench.adapters.jpc import remainders

    network = BASE.replace(residual=True, parameterisation="sp").network()
    np.testing.assert_allclose(remainders(network, "mupc", 1.0), [np.sqrt(3), 4, 4, 4], rtol=1e-15)
    assert remainders(network.folded(), "sp", None) == [1.0] * 4


# ---- what comes with all of them ------------------------------------------------------------------------------------


def test_no_adapter_names_a_path_of_this_machine():
    """If this fails, the register works only where it was written."""
    for entry in KNOWN.values():
        assert os.sep not in entry.spec
        assert os.sep not in entry.install or entry.install.startswith("git+https://")


@pytest.mark.parametrize("name", [name for name in KNOWN if known_failures_file(name)])
def test_known_failures_name_laws_and_cover_the_installed_version(name):
    """If this fails, a law was renamed or a range is wrong, and `pcbench check` refuses the file."""
    entry = KNOWN[name]
    entries = known_failures.read(known_failures_file(name) or "", list(REGISTRY))
    version = "1.0.0" if entry.probe == "jpc" else entry.install.partition("==")[2]
    known_failures.check_current(entries, entry.probe, version, {})
    assert entries
