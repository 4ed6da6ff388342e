r"""Adapter of PCX's convolutional layers for residual CNNs.

Layers are `Conv2d`, `AvgPool2d` and `Linear`, of which only the skips, the activation before a residual branch and the
order in which the readout takes pixels and channels are lines of the model.  PCX has the axis of channels before those
of pixels, so arrays are turned on their way in and out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from pcbench.adapters.pcx import Pcx
from pcbench.problem.network import Activities
from pcbench.protocol.implementation import Inference


def implementation() -> PcxCnn:
    """PCX on residual CNNs, its global random key seeded before each question.

    **Raises:** `MissingLibraryError` where PCX cannot be imported.
    """
    return PcxCnn()


class _Static(NamedTuple):
    """What a model is built for; programs are compiled for it, besides shapes and dtype."""

    sizes: tuple[tuple[str, int], ...]
    activation: str
    loss: str


class PcxCnn(Pcx):
    """The adapter of PCX on `Architecture`s of the kind `cnn`."""

    train: Any = None  # the protocol trains MLPs only

    def __init__(self) -> None:
        super().__init__()
        capabilities = replace(self.manifest.capabilities, architectures=("cnn",), placements=("before-weight",))
        self.manifest = replace(self.manifest, name="pcx-cnn", capabilities=capabilities)

    def predict(self, network: Any, input: np.ndarray) -> np.ndarray:
        """What the last `Vode` receives in a pass with the status `INIT`, before any softmax."""
        return super().predict(network, _channels_first(input))

    def activity_gradients(
        self, network: Any, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """`value_and_grad` by the values of the hidden `Vode`s."""
        return [_channels_last(g) for g in super().activity_gradients(network, input, target, activities)]

    def weight_gradients(
        self, network: Any, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[Any]:
        """`value_and_grad` by the kernels and the readout, `()` for a pooling."""
        found = self._evaluate_at(network, input, target, activities)["weight_gradients"]
        return [() if isinstance(g, tuple) else _channels_last(np.array(g)) for g in found]

    def infer(
        self,
        network: Any,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """Steps of `Optim` over the hidden `Vode`s, from a pass with the status `INIT` or from given activities."""
        start = None if start is None else [_channels_first(z) for z in start]
        state = super().infer(network, _channels_first(input), target, steps, step_size, start)
        return Inference(activities=[_channels_last(z) for z in state.activities])

    def _evaluate_at(
        self, network: Any, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> dict[str, Any]:
        return super()._evaluate_at(network, _channels_first(input), target, [_channels_first(z) for z in activities])

    def _static(self, network: Any) -> Any:
        return _Static(tuple(network.sizes.items()), network.activation, network.loss)

    def _build_model(self, static: Any) -> Any:
        return _model_class(self._lib.Chain, self._lib.pxnn, self._lib.px.static, self._lib.jax.numpy)(
            dict(static.sizes), self._lib.activations[static.activation], static.loss
        )

    def _parameters(self, network: Any) -> Sequence[Any]:
        return [_channels_first(p) if isinstance(p, np.ndarray) else p for p in network.parameters]


def _channels_first(array: np.ndarray) -> np.ndarray:
    """Images and kernels with the axis of channels before those of pixels; other arrays as they are."""
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array


def _channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


@cache
def _model_class(chain: Any, pxnn: Any, static: Any, jnp: Any) -> Any:
    class Cnn(chain):
        """Stages of a convolution, residual blocks and a pooling; a readout."""

        def __init__(self, sizes: dict[str, int], phi: Any, loss: str) -> None:
            N, side = sizes["width"], sizes["side"] // 2 ** sizes["stages"]

            def convolution(channels: int) -> Any:
                return pxnn.Conv2d(channels, N, kernel_size=3, padding=1, use_bias=False)

            layers, kinds = [], []
            for stage in range(sizes["stages"]):
                layers += [convolution(N if stage else sizes["channels"])]
                layers += [convolution(N) for _ in range(sizes["blocks"])]
                layers += [pxnn.AvgPool2d(kernel_size=2, stride=2)]
                kinds += ["plain", *["residual"] * sizes["blocks"], "pooling"]
            super().__init__([*layers, pxnn.Linear(N * side**2, sizes["classes"], bias=False)], loss)
            self.kinds, self.phi = static([*kinds, "readout"]), static(phi)

        def prediction(self, l: int, x: Any) -> Any:
            kind, layer = self.kinds.get()[l], self.layers[l]
            if kind == "pooling":
                return layer(x)
            if kind == "residual":
                return x + self.scalings[l] * layer(self.phi(x))
            return self.scalings[l] * layer(jnp.moveaxis(x, 0, -1).ravel() if kind == "readout" else x)

    return Cnn
