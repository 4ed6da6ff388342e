"""Networks spread over devices, four simulated ones in a process of their own, against closed forms in NumPy."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from pcbench import theory
from pcbench.errors import UsageError
from pcbench.experiments import sharded
from pcbench.problem.mlp import Problem
from pcbench.reference.network import PCN

PROBLEMS = {
    "residual": Problem(input_dim=6, width=24, depth=5, output_dim=3, batch=7, residual=True, seed=3),
    "plain": Problem(input_dim=6, width=8, depth=3, output_dim=2, batch=4, seed=4, output_precision=2.5),
    "shallow": Problem(input_dim=5, width=4, depth=2, output_dim=1, batch=2, seed=5, parameterisation="ntp"),
}
CHILD = textwrap.dedent("""
    import json, sys
    import jax, numpy as np
    from pcbench.experiments import sharded
    from pcbench.problem import Problem
    answers = {"devices": len(jax.devices())}
    for name, line in json.loads(sys.argv[1]).items():
        problem = Problem.from_line(line)
        found = sharded.compare(problem.network(), problem.input(), problem.target(), sharded.mesh_of())
        parts = [[list(shard.data.shape) for shard in g.addressable_shards] for g in found.gradients]
        answers[name] = {
            "loss": found.loss, "energy": found.energy, "error": found.gradient_error, "miss": found.misalignment,
            "converged": found.converged, "parts": parts,
            "gradients": [np.asarray(g).tolist() for g in found.gradients],
        }
    print(json.dumps(answers))
""")


@pytest.fixture(scope="module")
def answers():
    lines = {name: problem.line() for name, problem in PROBLEMS.items()}
    # The number of devices is fixed when JAX starts, so it cannot change in this process.
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", CHILD, json.dumps(lines)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


def closed_forms(problem):
    """Loss, energy, and both gradients as vectors in the order W_1 to W_L, from the theory."""
    network, x, y = problem.network(), problem.input(), problem.target()
    pc = flat(theory.equilibrium_weight_gradients(network, x, y))
    bp = flat(theory.loss_gradients(network, x, y)) * network.precision
    return network.precision * theory.loss(network, x, y), theory.equilibrium_energy(network, x, y), pc, bp


@pytest.mark.parametrize("name", PROBLEMS)
def test_four_devices_give_the_closed_forms(answers, name):
    """If this fails, a network spread over devices is another network: a sum over devices is missing or doubled."""
    assert answers["devices"] == 4
    found = answers[name]
    loss, energy, pc, bp = closed_forms(PROBLEMS[name])
    np.testing.assert_allclose([found["loss"], found["energy"]], [loss, energy], rtol=1e-12)
    gradients = flat([np.asarray(g) for g in found["gradients"]])
    np.testing.assert_allclose(gradients, pc, rtol=1e-9, atol=1e-12 * float(np.linalg.norm(pc)))
    expected = np.linalg.norm(pc - bp) / np.linalg.norm(bp)
    np.testing.assert_allclose(found["error"], expected, rtol=1e-9)
    cosine = pc @ bp / (np.linalg.norm(pc) * np.linalg.norm(bp))
    np.testing.assert_allclose(found["miss"], 1 - cosine, rtol=1e-9, atol=1e-15)
    assert found["converged"]


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_device_holds_its_share(answers, name):
    """If this fails, some device holds a whole matrix, and the width is bounded by one device again."""
    p = PROBLEMS[name]
    share = p.width // 4
    first, hidden, last = answers[name]["parts"]
    assert first == [[share, p.input_dim]] * 4
    if p.depth > 2:  # an array without elements is nobody's share
        assert hidden == [[p.depth - 2, share, p.width]] * 4
    assert last == [[p.output_dim, share]] * 4


def test_one_device_is_the_same_program():
    """If this fails, nothing can be compared between one device and several."""
    problem = PROBLEMS["residual"]
    found = sharded.compare(problem.network(), problem.input(), problem.target(), sharded.mesh_of())
    loss, energy, pc, _ = closed_forms(problem)
    np.testing.assert_allclose([found.loss, found.energy], [loss, energy], rtol=1e-12)
    np.testing.assert_allclose(
        flat([np.asarray(g) for g in found.gradients]), pc, atol=1e-12 * float(np.linalg.norm(pc))
    )


class Four:
    """As much of a mesh as `place` asks before it refuses."""

    size = 4


def test_a_width_that_cannot_be_split_is_refused():
    """If this fails, JAX answers with a message about partitions instead of what to do."""
    problem = PROBLEMS["plain"].replace(width=6)
    with pytest.raises(UsageError, match="width=6 on 4 devices: needed a multiple of 4"):
        sharded.place(PCN.from_network(problem.network()), Four())  # pyright: ignore


def test_a_nonlinear_network_is_refused():
    """If this fails, the linear solver's answer for a tanh network is taken for its equilibrium."""
    problem = PROBLEMS["plain"].replace(activation="tanh")
    with pytest.raises(UsageError, match="activation='tanh' over a mesh"):
        sharded.compare(problem.network(), problem.input(), problem.target(), sharded.mesh_of())
