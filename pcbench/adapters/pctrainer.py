r"""Adapter of PCTrainer (https://github.com/Bogacz-Group/PredictiveCoding), through its public API.

A network becomes an `nn.Sequential` with a `PCLayer` after every hidden layer, trained by a `PCTrainer` whose
optimisers are `torch.optim.SGD`.  A start is given to each `PCLayer` as its `sample_x_fn`.

What to know of it (commit 5bf803c) when reading the results:

- Of the T iterations of `train_on_batch`, each evaluates energy and gradients and moves the activities afterwards:
  the energy (`energy_lag`) and the weight gradients (`previous`) are those of before the last step.
- `PCTrainer` refuses `T=0`.  No step is therefore one iteration that updates nothing, and so is an energy or a
  gradient at given activities.
- The weights are updated by the gradients of iteration T, before which the activities have moved T - 1 times; training
  "after T steps of inference" is therefore its T + 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pcbench.adapters.torch import Case, TorchAdapter, commit, import_clone, to_arrays, versions
from pcbench.problem.network import ACTIVATIONS, DTYPES, LOSSES, PLACEMENTS, Activities, Network
from pcbench.protocol.implementation import Capabilities, Conventions, Inference, Manifest

URL = "https://github.com/Bogacz-Group/PredictiveCoding"


def implementation() -> PCTrainerAdapter:
    """`PCTrainer` with gradient descent on activities and weights.

    **Raises:** `MissingLibraryError` where PyTorch or the library cannot be imported.
    """
    return PCTrainerAdapter()


class PCTrainerAdapter(TorchAdapter):
    """The adapter."""

    def __init__(self) -> None:
        super().__init__()
        self._lib: Any = import_clone("predictive_coding")
        self.manifest = Manifest(
            name="pctrainer",
            library="PredictiveCoding",
            version=commit(self._lib)[:7],
            versions=versions(),
            url=URL,
            capabilities=Capabilities(
                activations=ACTIVATIONS,
                placements=PLACEMENTS,
                losses=LOSSES,
                dtypes=DTYPES,
                residual=True,
                precision=True,
                scalings="native",
                reports_energy=True,
                reports_gradients=True,
                shapes="free",
            ),
            conventions=Conventions(
                energy_reduction="sum",
                energy_lag=1,
                step_size="per-sample",
                gradient_reduction="sum",
                gradient_point="previous",
                activity_gradient_reduction="sum",
                weight_layout="out-in",
            ),
        )

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """The model in evaluation mode, in which a `PCLayer` hands on what it is given."""
        case = self.case(network, input)
        return to_arrays([self._model(case).eval()(case.input)])[0]

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """The `overall` energy, hidden layers and loss, of an iteration that updates nothing."""
        return self._evaluate_at(self.case(network, input, target), activities)[1]["overall"][-1]

    def layer_energies(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> np.ndarray:
        """The energy held by each `PCLayer`, and the loss."""
        trainer, results = self._evaluate_at(self.case(network, input, target), activities)
        return np.array([*(float(energy) for energy in trainer.get_energies()), results["loss"][-1]])

    def activity_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """What the `backward` of an iteration leaves in the activities."""
        trainer, _ = self._evaluate_at(self.case(network, input, target), activities)
        return to_arrays([x.grad for x in trainer.get_model_xs()])

    def weight_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """What the `backward` of an iteration leaves in the weights."""
        trainer, _ = self._evaluate_at(self.case(network, input, target), activities)
        return to_arrays([p.grad for p in trainer.get_model_parameters()])

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """One batch of `steps` iterations; energy and weight gradients are those of its last."""
        case = self.case(network, input, target)
        moves = {"T": steps} if steps else {"T": 1, "update_x_at": "never"}
        trainer = self._trainer(case, self._model(case, start), step_size, **moves)
        results = self._batch(trainer, case)
        return Inference(
            activities=to_arrays(list(trainer.get_model_xs())),
            # Without a step there is no energy of the step before it.
            energy=results["overall"][-1] if steps else None,
            weight_gradients=to_arrays([p.grad for p in trainer.get_model_parameters()]) if steps else None,
        )

    def train(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        iterations: int,
        learning_rate: float,
        steps: int,
        step_size: float,
    ) -> list[np.ndarray]:
        """`iterations` batches of `steps` + 1 iterations, the last of which updates the weights."""
        case = self.case(network, input, target)
        rate = learning_rate / len(input)  # its energy is a sum over the batch
        trainer = self._trainer(case, self._model(case), step_size, rate, T=steps + 1)
        for _ in range(iterations):
            self._batch(trainer, case)
        return to_arrays(list(trainer.get_model_parameters()))

    def _model(self, case: Case, start: Activities | None = None) -> Any:
        """The layers with a `PCLayer` after each but the last, which begins at the prediction or at `start`."""
        hidden = len(case.layers) - 1
        layers = [self._lib.PCLayer() for _ in range(hidden)]
        if start is not None:
            layers = [self._lib.PCLayer(sample_x_fn=lambda _, z=z: z) for z in self.tensors(start)]
        pairs = zip(case.layers, [*layers, None], strict=True)
        return self.torch.nn.Sequential(*(module for pair in pairs for module in pair if module is not None)).train()

    def _trainer(self, case: Case, model: Any, step_size: float, rate: float = 0.0, **settings: Any) -> Any:
        sgd = self.torch.optim.SGD
        return self._lib.PCTrainer(
            model,
            optimizer_x_fn=sgd,
            optimizer_x_kwargs={"lr": step_size},
            optimizer_p_fn=sgd,
            optimizer_p_kwargs={"lr": rate},
            **settings,
        )

    def _batch(self, trainer: Any, case: Case) -> dict[str, list[float]]:
        return trainer.train_on_batch(case.input, loss_fn=case.loss, loss_fn_kwargs={"target": case.target})

    def _evaluate_at(self, case: Case, activities: Activities) -> tuple[Any, dict[str, list[float]]]:
        """A trainer after one iteration at these activities that updates nothing, and its results."""
        trainer = self._trainer(case, self._model(case, activities), 0.0, T=1, update_x_at="never")
        return trainer, self._batch(trainer, case)
