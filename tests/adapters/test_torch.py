r"""PyTorch and the libraries on it: absent, present, and cloned.

Expectations are central differences of an implementation's own energy and the formulae written out in NumPy.  What
needs PyTorch or a clone is skipped where it is missing; everything that a user meets without them is tested anywhere.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest

from pcbench.adapters import pctrainer, preco, torch, torch2pc
from pcbench.adapters import register as adapters
from pcbench.adapters.register import KNOWN
from pcbench.errors import ContractError, MissingLibraryError
from pcbench.laws import REGISTRY
from pcbench.problem.mlp import Problem
from pcbench.problem.network import ACTIVATIONS, PLACEMENTS
from pcbench.protocol.implementation import Manifest, methods_of
from pcbench.report import known_failures

CLONES = {"torch2pc": torch2pc, "preco": preco, "pctrainer": pctrainer}
BASE = Problem(input_dim=3, width=4, depth=3, output_dim=2, batch=3, seed=11)
SETTINGS = [
    {"residual": True, "depth": 4},
    {"loss": "ce", "output_precision": 0.4},
    {"output_precision": 2.5, "output_multiplier": 3.0, "parameterisation": "ntp"},
    *({"activation": a} for a in ACTIVATIONS),
    *({"activation": a, "placement": "after-weight"} for a in ACTIVATIONS if a != "linear"),
]


def skip_without(module):
    """A mark for tests of what a module makes possible."""
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed here")


needs_torch = skip_without("torch")


@pytest.fixture
def no_torch(monkeypatch):
    """An interpreter in which `import torch` fails, whether or not it is installed."""
    monkeypatch.setitem(sys.modules, "torch", None)
    torch.pytorch.cache_clear()
    yield
    torch.pytorch.cache_clear()


@pytest.fixture
def stub_torch(monkeypatch):
    """An interpreter in which `import torch` gives an empty module."""
    stub = types.ModuleType("torch")
    stub.__version__ = "2.0"  # pyright: ignore[reportAttributeAccessIssue]
    stub.set_num_threads = lambda number: None  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torch", stub)
    torch.pytorch.cache_clear()
    yield stub
    torch.pytorch.cache_clear()


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


# ---- where something is missing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [torch, *CLONES.values()])
def test_without_pytorch_every_adapter_says_how_to_install_it(no_torch, module):
    """If this fails, a user without the library sees a traceback instead of the command that helps."""
    preco._library.cache_clear()
    with pytest.raises(MissingLibraryError, match=r"pip install torch") as caught:
        module.implementation()
    assert "--python" in str(caught.value)


@pytest.mark.parametrize("name", CLONES)
def test_without_its_clone_an_adapter_says_what_to_clone_and_where_to_put_it(stub_torch, monkeypatch, name):
    """If this fails, someone looks for a package that does not exist: none of the three can be installed by pip."""
    probe = KNOWN[name].probe
    for loaded in [m for m in sys.modules if m.partition(".")[0] == probe]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, probe, None)
    preco._library.cache_clear()
    with pytest.raises(MissingLibraryError) as caught:
        CLONES[name].implementation()
    text = str(caught.value)
    assert f"git clone {KNOWN[name].clone}" in text
    assert "PYTHONPATH" in text
    assert ".pth" in text  # a worker in another interpreter is not given this one's PYTHONPATH
    assert "pip install" in text


def test_the_register_sends_nobody_to_pip_for_what_is_cloned():
    """If this fails, `pcbench adapters` advises to install a package that is somebody else's."""
    for name in CLONES:
        assert KNOWN[name].clone.startswith("https://github.com/")
        assert not KNOWN[name].install
    assert KNOWN["torch"].install == "torch"
    assert not KNOWN["torch"].clone


def test_importing_the_adapters_imports_no_library():
    """If this fails, reading an adapter's docstring or its known failures costs the import of PyTorch."""
    modules = ", ".join(f"pcbench.adapters.{name}" for name in ("torch", *CLONES))
    code = (
        f"import sys, {modules}; assert not {{'torch', 'TorchSeq2PC', 'PRECO', 'predictive_coding'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("threads", ["1", "3", ""])
def test_pytorch_gets_the_threads_of_the_worker(stub_torch, monkeypatch, threads):
    """If this fails, PyTorch uses all cores where the harness gave it one, and times mean nothing."""
    given = []
    stub_torch.set_num_threads = given.append
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    torch.pytorch()
    assert given == ([int(threads)] if threads else [])


# ---- which commit a clone is at -------------------------------------------------------------------------------------

SHA = "0123456789abcdef0123456789abcdef01234567"


def module_at(path):
    module = types.ModuleType("library")
    module.__file__ = str(path)
    return module


@pytest.mark.parametrize("kind", ["branch", "packed", "detached"])
@pytest.mark.parametrize("file", ["library.py", "library/__init__.py"])
def test_the_commit_of_a_clone_is_read_from_its_git_folder(tmp_path, kind, file):
    """If this fails, a report on a library without versions does not say what was tested."""
    git = tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text(f"{SHA}\n" if kind == "detached" else "ref: refs/heads/main\n")
    if kind == "branch":
        (git / "refs/heads/main").write_text(f"{SHA}\n")
    if kind == "packed":
        (git / "packed-refs").write_text(f"# pack-refs\n{'f' * 40} refs/heads/other\n{SHA} refs/heads/main\n")
    assert torch.commit(module_at(tmp_path / file)) == SHA


def test_a_folder_that_is_no_clone_has_no_commit(tmp_path):
    """If this fails, a library in the environment of some other repository is given that repository's commit."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/HEAD").write_text(f"{SHA}\n")
    assert torch.commit(module_at(tmp_path / "site-packages" / "library.py")) == ""
    (tmp_path / "empty/.git").mkdir(parents=True)
    (tmp_path / "empty/.git/HEAD").write_text("ref: refs/heads/main\n")  # before the first commit
    assert torch.commit(module_at(tmp_path / "empty" / "library.py")) == ""


# ---- PyTorch --------------------------------------------------------------------------------------------------------


@needs_torch
@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_torch_gradients_are_those_of_its_energy(changes):
    """If this fails, a scaling, skip or activation is in one of the two and not in the other."""
    adapter = torch.implementation()
    network, x, y, z = case(**changes)
    for l, gradient in enumerate(adapter.weight_gradients(network, x, y, z)):

        def of_weight(W, l=l):
            weights = [*network.weights[:l], W, *network.weights[l + 1 :]]
            return adapter.energy(network.with_weights(weights), x, y, z)

        np.testing.assert_allclose(gradient, central(of_weight, network.weights[l]), atol=1e-7, rtol=1e-6)
    for l, gradient in enumerate(adapter.activity_gradients(network, x, y, z)):

        def of_activity(a, l=l):
            return adapter.energy(network, x, y, [*z[:l], a, *z[l + 1 :]])

        np.testing.assert_allclose(gradient, central(of_activity, z[l]), atol=1e-7, rtol=1e-6)


@needs_torch
def test_torch_energy_by_hand():
    r"""A factor in the energy would cancel in the gradient test: one number from the formula itself.

    One unit everywhere, weights 2 and 3, scalings from `sp`, x = 1, z = 5, y = 7: errors 5 - 2 and 7 - 15, so that two
    samples with λ = ½ have 2 (½·9 + ½·½·64).
    """
    adapter = torch.implementation()
    problem = BASE.replace(input_dim=1, width=1, depth=2, output_dim=1, batch=2, parameterisation="sp")
    network = problem.replace(output_precision=0.5).network().with_weights([np.full((1, 1), 2.0), np.full((1, 1), 3.0)])
    x, z, y = (np.full((2, 1), v) for v in (1.0, 5.0, 7.0))
    assert adapter.energy(network, x, y, [z]) == 2 * (4.5 + 16.0)
    np.testing.assert_array_equal(adapter.layer_energies(network, x, y, [z]), [9.0, 32.0])
    with pytest.raises(ValueError, match="target of shape"):
        adapter.energy(network, x, y[:, 0], [z])


@needs_torch
def test_torch_inference_and_training_descend():
    """One step is minus the step size times the gradient; one update minus the rate times the mean gradient."""
    adapter = torch.implementation()
    network, x, y, z = case(activation="tanh", residual=True, depth=4)
    moved = adapter.infer(network, x, y, 1, 0.1, z).activities
    for a, b, g in zip(z, moved, adapter.activity_gradients(network, x, y, z), strict=True):
        np.testing.assert_allclose((a - b) / 0.1, g, atol=1e-13)
    end = list(adapter.infer(network, x, y, 5, 0.1).activities)
    updated = adapter.train(network, x, y, 1, 0.3, 5, 0.1)
    for W, new, g in zip(network.weights, updated, adapter.weight_gradients(network, x, y, end), strict=True):
        np.testing.assert_allclose((W - new) / 0.3, g / len(x), atol=1e-13)


@needs_torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_answers_in_the_dtype_of_the_network_and_leaves_the_default_alone(dtype):
    """If this fails, a dtype is silently another one, or one library's need changes what the next one computes."""
    import torch as library  # pyright: ignore[reportMissingImports]

    adapter = torch.implementation()
    network, x, y, z = case(dtype=dtype, residual=True, activation="gelu-tanh", depth=4)
    arrays = [
        adapter.predict(network, x),
        *adapter.infer(network, x, y, 3, 0.1, z).activities,
        *adapter.weight_gradients(network, x, y, z),
        *adapter.activity_gradients(network, x, y, z),
        *adapter.train(network, x, y, 1, 0.1, 2, 0.1),
    ]
    assert {a.dtype for a in arrays} == {np.dtype(dtype)}
    before = library.get_default_dtype()
    with contextlib.suppress(KeyError), torch.default_dtype(network):
        assert library.empty(0).dtype == getattr(library, dtype)
        raise KeyError("inside")
    assert library.get_default_dtype() == before


@needs_torch
def test_a_library_plugs_in_by_a_subclass():
    """If this fails, the few lines that the module's docstring promises are not enough."""

    class Mine(torch.TorchPCN):
        activity_gradients: Any = None

        def infer(self, network, input, target, steps, step_size, start=None):
            question = self.case(network, input, target)
            z = torch.feedforward(question)[:-1] if start is None else self.tensors(start)
            return torch.Inference(activities=torch.to_arrays([a + step_size * steps for a in z]))

    adapter = Mine()
    network, x, y, z = case()
    assert set(methods_of(adapter)) == {"layer_energies", "weight_gradients", "train"}
    for a, b in zip(z, adapter.infer(network, x, y, 2, 0.5, z).activities, strict=True):
        np.testing.assert_array_equal(a + 1, b)


# ---- the clones -----------------------------------------------------------------------------------------------------


@skip_without("TorchSeq2PC")
def test_torch2pc_offers_what_it_has():
    """If this fails, something is claimed of Torch2PC that it does not compute, or is no longer asked of it."""
    adapter = torch2pc.implementation()
    assert set(methods_of(adapter)) == {"weight_gradients", "fixed_prediction_gradients", "train"}
    assert Manifest.from_json(adapter.manifest.to_json()) == adapter.manifest
    network, x, y, z = case()
    with pytest.raises(ContractError, match="no energy"):
        adapter.energy(network, x, y, z)


@skip_without("TorchSeq2PC")
@skip_without("predictive_coding")
def test_reported_gradients_belong_to_the_declared_point():
    """If this fails, a convention is declared that is not the library's; the formulae are those of one hidden layer."""
    network, x, y, _ = case(depth=2)
    (W, V), step = (a * w for a, w in zip(network.scalings, network.weights, strict=True)), 0.1

    def errors(z):
        return z - x @ W.T, y - z @ V.T

    path = [x @ W.T]
    for _ in range(3):
        low, top = errors(path[-1])
        path.append(path[-1] - step * (low - top @ V))
    last, before = path[-1], path[-2]
    for adapter, carrier in ((torch2pc.implementation(), last), (pctrainer.implementation(), before)):
        answer = adapter.infer(network, x, y, 3, step)
        np.testing.assert_allclose(answer.activities[0], last, atol=1e-14)
        assert answer.weight_gradients is not None
        for gradient, a, e, below in zip(
            answer.weight_gradients, network.scalings, errors(before), (x, carrier), strict=True
        ):
            np.testing.assert_allclose(gradient, -a * e.T @ below, atol=1e-13)
        if answer.energy is not None:
            expected = sum(0.5 * np.sum(e**2) for e in errors(before))
            np.testing.assert_allclose(answer.energy, expected, rtol=1e-14)


@skip_without("PRECO")
@pytest.mark.parametrize(
    ("activation", "placement"),
    [("linear", "before-weight"), *((a, p) for a in ("tanh", "relu", "silu") for p in PLACEMENTS)],
)
def test_preco_predicts_with_the_activations_of_a_pcn_of_pcbench(activation, placement):
    """If this fails, PRECO activates its input or its output after all, and every law speaks about another model."""
    phi = {
        "linear": lambda z: z,
        "tanh": np.tanh,
        "relu": lambda z: np.maximum(z, 0),
        "silu": lambda z: z / (1 + np.exp(-z)),
    }
    network, x, *_ = case(activation=activation, placement=placement)
    network, value = network.folded(), x
    for l, W in enumerate(network.weights, start=1):
        if placement == "before-weight":
            value = (phi[activation](value) if l > 1 else value) @ W.T
        else:
            value = phi[activation](value @ W.T) if l < network.depth else value @ W.T
    np.testing.assert_allclose(preco.float64().predict(network, x), value, atol=1e-14)


# ---- known failures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torch2pc", "preco"])
def test_known_failures_name_laws_and_hold_for_every_commit(name):
    """If this fails, a law was renamed, or a range is given that a commit cannot be compared with."""
    entries = known_failures.read(adapters.known_failures_file(name) or "", list(REGISTRY))
    known_failures.check_current(entries, name, "00c6c50", {})
    assert entries
    for entry in entries:  # there are no versions: the commit is in the reason
        assert re.search(r"[0-9a-f]{7}", entry.reason)
