"""Files that `pcbench new-adapter` writes, above all an adapter that passes every law it claims."""

from __future__ import annotations

import re

from pcbench.adapters.scaffold.files import KNOWN_FAILURES, TEST, WORKFLOW
from pcbench.errors import UsageError

WORKFLOW_PATH = ".github/workflows/pcbench.yml"


def scaffold_files(name: str, folder: str = "", *, workflow: bool = True) -> dict[str, str]:
    """The files of a new adapter for the library `name`: paths from the top of its repository, and texts.

    They lie in `folder`, but for the workflow, which has a place of its own.  The module is called
    `<name>_adapter.py`, so that it never hides the library itself from its own `import`.

    **Raises:** `UsageError` for a name of which no module name can be made, or a folder that a workflow cannot name.
    """
    name = name.strip()
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9 ._-]*", name):  # it also goes into a string and a docstring
        raise UsageError(
            f"adapter name {name!r}: needed letters, digits, '-', '_' and '.', beginning with a letter, such as 'my-pc'"
        )
    module = re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")
    folder = "" if folder in ("", ".") else folder.strip("/") + "/"
    if not re.fullmatch(r"[A-Za-z0-9._/-]*", folder):  # it goes into commands and into YAML
        raise UsageError(f"directory {folder!r}: needed letters, digits, '-', '_', '.' and '/' in its path")
    adapter, known = f"{folder}{module}_adapter.py", f"{folder}{module}-known-failures.json"
    test = f"{folder}test_{module}_conformance.py"
    files = {adapter: _ADAPTER, known: KNOWN_FAILURES, test: TEST}
    if workflow:
        files[WORKFLOW_PATH] = WORKFLOW
    words = {"@NAME@": name, "@MODULE@": module, "@ADAPTER@": adapter, "@KNOWN@": known, "@TEST@": test}
    for word, text in words.items():
        files = {path: content.replace(word, text) for path, content in files.items()}
    return files


_ADAPTER = r'''"""How pcbench asks @NAME@.  As written, a small network in NumPy stands in for it and passes every law.

    pcbench check @ADAPTER@ --profile smoke                 # in this interpreter
    pcbench check @ADAPTER@ --profile smoke --python PATH   # in the interpreter that has @NAME@

Replace the body of each method marked REPLACE by calls to @NAME@, one at a time, and check after each:

1. Claim `activations=("linear",)` alone, for which placements do not matter.  Fill in `predict`, then `energy`, then
   `infer`; then delete the optional methods, and the small network at the end.
2. Return what the library returns.  If its numbers are to be read differently (a sum over the batch, another sign,
   transposed weights, a step size for the mean), say so in `Conventions` and leave the numbers alone:
   `pcbench conventions @ADAPTER@` tries them all on small problems and prints what to declare.  The smallest
   failing problem has 1 or 2 samples: `pcbench replay LAW 'D=1,N=1,L=2,K=1,B=3' --impl ADAPTER` shows a sum over
   the batch as three times what is expected, and a lost 1/2 as twice.
3. Claim the other activations, with their placement, and bring back the optional methods one by one.  What is not
   claimed is not judged; what is claimed is never skipped.
4. What is left is a defect of the adapter or of @NAME@: correct it, or list it in @MODULE@-known-failures.json.
"""

from __future__ import annotations

import numpy as np

from pcbench import Capabilities, Conventions, Inference, Manifest, Network


def implementation() -> Adapter:
    """What `pcbench check` calls.  Import the library here or in `Adapter.__init__`, and set its precision there."""
    return Adapter()


class Adapter:
    """The network is data: `weights` (fan_out, fan_in), `activation`, `loss`; see `help("pcbench.Network")`.

    `input` is (batch, D), `target` (batch, K); activities are a list of the hidden layers', (batch, width) each,
    beginning at the input.  Arrays are NumPy arrays of `network.dtype`; never write into one, and return that dtype.
    """

    manifest = Manifest(
        name="@NAME@",
        library="@NAME@",
        version="",  # REPLACE: the library's own, as in @MODULE@.__version__
        capabilities=Capabilities(
            activations=("linear", "tanh"),  # of linear, tanh, relu, gelu, gelu-tanh, silu, softplus
            placements=("before-weight",),  # W phi(z), not on the input; after-weight is phi(W z), not on the output
            losses=("mse",),  # and ce, softmax cross-entropy
            dtypes=("float64", "float32"),
            residual=False,  # True: `network.skips` says where
            precision=False,  # True: `network.precision` multiplies the output energy
            scalings="folded",  # weights arrive multiplied by their layer scalings; native: apply `network.scalings`
            start=True,  # infer accepts activities to start from
            zero_steps=True,  # infer accepts steps=0
            energy_at_activities=True,  # energy can be had at any activities
            shapes="free",  # palette: every new shape costs a compilation
        ),
        conventions=Conventions(
            energy_reduction="mean",  # over the batch, or sum
            energy_factor=1.0,  # 2.0 for a library without the 1/2, -1.0 for one that reports a log-likelihood
            step_size="per-sample",  # batch-mean: steps along the gradient of the mean over the batch
            update_order="simultaneous",  # or input-first, output-first: layer after layer
            gradient_sign=1,  # -1 if updates are returned
            gradient_reduction="mean",
            activity_gradient_sign=1,
            activity_gradient_reduction="sum",  # sum: each sample's own energy
            weight_layout="out-in",  # in-out if weights and their gradients come back transposed
        ),
    )

    # ---- required: these three --------------------------------------------------------------------------------

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """The output of the feedforward pass, (batch, K)."""
        return self._predictions(network, input, self._feedforward(network, input))[-1]  # REPLACE

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: list[np.ndarray]) -> float:
        """The total energy at these activities.

        If the library reports none, half the sum of its own squared prediction errors; say so in `Manifest.notes`.
        """
        errors = self._errors(network, input, target, activities)  # REPLACE
        return float(sum(0.5 * np.sum(e**2) for e in errors) / len(input))

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: list[np.ndarray] | None = None,
    ) -> Inference:
        """The activities after exactly `steps` steps, from the feedforward pass unless `start` is given."""
        z = self._feedforward(network, input) if start is None else [np.array(a) for a in start]  # REPLACE
        for _ in range(steps):
            gradients = self.activity_gradients(network, input, target, z)
            z = [a - step_size * g for a, g in zip(z, gradients)]
        return Inference(activities=z)

    # ---- optional: to leave one out, delete it ----------------------------------------------------------------

    def activity_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: list[np.ndarray]
    ) -> list[np.ndarray]:
        """The gradient of the energy by each hidden layer's activities."""
        errors = self._errors(network, input, target, activities)  # REPLACE
        slopes = [1 - np.tanh(z) ** 2 if network.activation == "tanh" else np.ones_like(z) for z in activities]
        return [errors[l] - slopes[l] * (errors[l + 1] @ network.weights[l + 1]) for l in range(len(activities))]

    def weight_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: list[np.ndarray]
    ) -> list[np.ndarray]:
        """The gradient of the energy by each weight matrix, at these activities."""
        errors = self._errors(network, input, target, activities)  # REPLACE
        below = [input, *(self._phi(network, z) for z in activities)]
        return [-(e.T @ v) / len(input) for e, v in zip(errors, below)]

    # More that an adapter can answer, each judged as soon as it exists (see `help("pcbench.protocol.implementation")`):
    # layer_energies, equilibrium, train, fixed_prediction_gradients, zero_divergence_gradients, compilations.

    # ---- the small network: delete once nothing uses it ---------------------------------------------------------

    def _phi(self, network: Network, z: np.ndarray) -> np.ndarray:
        return np.tanh(z) if network.activation == "tanh" else z

    def _predictions(self, network: Network, input: np.ndarray, z: list[np.ndarray]) -> list[np.ndarray]:
        below = [input, *(self._phi(network, a) for a in z)]  # the input itself is not activated
        return [v @ W.T for v, W in zip(below, network.weights)]

    def _feedforward(self, network: Network, input: np.ndarray) -> list[np.ndarray]:
        z: list[np.ndarray] = []
        for _ in network.weights[:-1]:
            z.append(self._predictions(network, input, z)[-1])
        return z

    def _errors(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: list[np.ndarray]
    ) -> list[np.ndarray]:
        """Activity minus prediction, layer by layer, the target at the top."""
        predictions = self._predictions(network, input, activities)
        if target.shape != predictions[-1].shape:  # (batch,) minus (batch, 1) would be (batch, batch)
            raise ValueError(f"target of shape {target.shape}: needed {predictions[-1].shape}, that of the output")
        return [z - f for z, f in zip([*activities, target], predictions)]
'''
