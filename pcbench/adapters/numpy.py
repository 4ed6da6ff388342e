r"""A predictive coding network in plain NumPy, computed layer after layer as in a first experiment.

It shares nothing with the reference, the oracle or the theory, so that it agrees with them only if it is right.  Every
step is a small method: the wrong implementations that measure the power of the laws are subclasses of `NumpyPCN` with
one method changed.

**References:** Whittington and Bogacz 2017 for the model; Millidge, Tschantz and Buckley 2020 (arXiv 2006.04182) for
fixed predictions; Song et al. 2020 for zero-divergence inference learning; Goemaere et al. 2025 (arXiv 2505.20137) for
inference on errors.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence

import numpy as np

from pcbench.problem.network import ACTIVATIONS, DTYPES, LOSSES, PLACEMENTS, Activities, Network
from pcbench.protocol.implementation import Capabilities, Equilibrium, Inference, Manifest

_erf = np.frompyfunc(math.erf, 1, 1)
_GELU = math.sqrt(2 / math.pi)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * z))


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    return (0.5 * (1 + np.asarray(_erf(z.astype(np.float64) / math.sqrt(2)), dtype=np.float64))).astype(z.dtype)


def implementation() -> NumpyPCN:
    """The implementation that `pcbench check numpy` tests."""
    return NumpyPCN()


class NumpyPCN:
    r"""An MLP as a PCN; everything is computed in the network's own dtype.

    Inside, `z` is the list \(z_0 = x, z_1, \dots, z_{L-1}\), layers are counted from 1 as in the formulae, and the
    last prediction error carries the output precision.
    """

    manifest = Manifest(
        name="numpy",
        library="numpy",
        version=np.__version__,
        versions={"python": platform.python_version()},
        capabilities=Capabilities(
            activations=ACTIVATIONS,
            placements=PLACEMENTS,
            losses=LOSSES,
            dtypes=DTYPES,
            residual=True,
            precision=True,
            scalings="native",
            shapes="free",
        ),
    )

    # ---- the protocol -----------------------------------------------------------------------------------------

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """The output of the feedforward pass."""
        return self._prediction(network, network.depth, self._feedforward(network, input)[-1])

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """The mean over the batch of the energy of all layers."""
        return float(np.sum(self.layer_energies(network, input, target, activities)))

    def layer_energies(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> np.ndarray:
        """The mean over the batch of each layer's energy, `(depth,)`."""
        z = [input, *activities]
        return np.array([self._energy_term(network, l, z, target) for l in range(1, network.depth + 1)])

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """Gradient descent on the activities, all layers at once."""
        z = self._feedforward(network, input) if start is None else [input, *(np.array(a) for a in start)]
        for _ in range(steps):
            z = self._step(network, z, target, step_size)
        return Inference(activities=z[1:])

    def activity_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """The gradient of each sample's own energy."""
        z = [input, *activities]
        errors = self._errors(network, z, target)
        return [self._activity_gradient(network, l, z, errors) for l in range(1, network.depth)]

    def weight_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """The gradient of the mean energy at these activities."""
        z = [input, *activities]
        return self._weight_gradients(network, z, self._errors(network, z, target))

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
        """The weights after `iterations` of inference followed by one step of gradient descent."""
        for _ in range(iterations):
            activities = self.infer(network, input, target, steps, step_size).activities
            gradients = self.weight_gradients(network, input, target, list(activities))
            network = network.with_weights(
                [self._update(W, g, learning_rate) for W, g in zip(network.weights, gradients, strict=True)]
            )
        return list(network.weights)

    def fixed_prediction_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray
    ) -> Sequence[np.ndarray]:
        """Weight gradients when predictions and derivatives stay those of the feedforward pass during inference."""
        z = self._feedforward(network, input)
        errors = self._errors(network, z, target)
        for _ in range(network.depth - 1):  # at step size 1 the error descends one layer per step, and then rests
            errors = [
                *(self._feedback(network, l + 1, z[l], errors[l]) for l in range(1, network.depth)),
                errors[-1],
            ]
        return self._weight_gradients(network, z, errors)

    def zero_divergence_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray
    ) -> Sequence[np.ndarray]:
        """Weight gradients of layer `l` after `L - l` inference steps of size 1 from the feedforward pass."""
        z = self._feedforward(network, input)
        gradients: list[np.ndarray] = []
        for l in range(network.depth, 0, -1):
            errors = self._errors(network, z, target)
            gradients.insert(0, self._weight_gradient(network, l, z[l - 1], errors[l - 1]))
            z = self._step(network, z, target, 1.0)
        return gradients

    def equilibrium(self, network: Network, input: np.ndarray, target: np.ndarray) -> Equilibrium:
        """Activities at which the energy is stationary: in closed form if quadratic, by L-BFGS on errors if not."""
        if network.linear and network.loss == "mse":
            e, evaluations = self._closed_form(network, input, target), 3
        else:
            e, evaluations = self._minimise(network, input, target)
        z = self._from_errors(network, input, e)
        gradient = self._error_gradient(network, z, e, target)
        residual = np.linalg.norm(gradient, axis=1)
        done = bool(np.all(residual <= 1e4 * _rounding_of(e, gradient)))
        return Equilibrium(
            activities=z[1:],
            energy=self.energy(network, input, target, z[1:]),
            outcome="converged" if done else "stalled",
            residual=float(residual.max()),
            evaluations=evaluations,
        )

    # ---- the model: each of these is one line of the formulae ----------------------------------------------------

    def _phi(self, network: Network, z: np.ndarray) -> np.ndarray:
        match network.activation:
            case "tanh":
                return np.tanh(z)
            case "relu":
                return np.maximum(z, 0)
            case "gelu":
                return z * _normal_cdf(z)
            case "gelu-tanh":
                return 0.5 * z * (1 + np.tanh(_GELU * (z + 0.044715 * z**3)))
            case "silu":
                return z * _sigmoid(z)
            case "softplus":
                return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))
        return z

    def _phi_derivative(self, network: Network, z: np.ndarray) -> np.ndarray:
        match network.activation:
            case "tanh":
                return 1 - np.tanh(z) ** 2
            case "relu":
                return (z > 0).astype(z.dtype)
            case "gelu":
                return _normal_cdf(z) + z * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
            case "gelu-tanh":
                t = np.tanh(_GELU * (z + 0.044715 * z**3))
                return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * _GELU * (1 + 3 * 0.044715 * z * z)
            case "silu":
                s = _sigmoid(z)
                return s + z * s * (1 - s)
            case "softplus":
                return _sigmoid(z)
        return np.ones_like(z)

    def _scaling(self, network: Network, l: int) -> float:
        return network.scalings[l - 1]

    def _presynaptic(self, network: Network, l: int, below: np.ndarray) -> np.ndarray:
        """What the weight of layer `l` multiplies."""
        if l == 1 or network.placement == "after-weight":
            return below
        return self._phi(network, below)

    def _drive(self, network: Network, l: int, below: np.ndarray) -> np.ndarray:
        return self._scaling(network, l) * self._presynaptic(network, l, below) @ network.weights[l - 1].T

    def _prediction(self, network: Network, l: int, below: np.ndarray) -> np.ndarray:
        r"""\(f_l(z_{l-1})\), skip included."""
        branch = self._drive(network, l, below)
        if network.placement == "after-weight" and l < network.depth:
            branch = self._phi(network, branch)
        return self._skip(network, l, below) + branch if network.skips[l - 1] else branch

    def _skip(self, network: Network, l: int, below: np.ndarray) -> np.ndarray:
        return network.skips[l - 1] * below

    def _feedforward(self, network: Network, input: np.ndarray) -> list[np.ndarray]:
        z = [input]
        for l in range(1, network.depth):
            z.append(self._prediction(network, l, z[-1]))
        return z

    def _output_error(self, network: Network, target: np.ndarray, output: np.ndarray) -> np.ndarray:
        """Minus the derivative of the loss by the output."""
        target = self._target(target, output)
        if network.loss == "mse":
            return target - output
        shifted = np.exp(output - output.max(axis=1, keepdims=True))
        return target - target.sum(axis=1, keepdims=True) * shifted / shifted.sum(axis=1, keepdims=True)

    def _target(self, target: np.ndarray, output: np.ndarray) -> np.ndarray:
        """The target, refused if NumPy would have to stretch it: one of shape (batch,) would become (batch, batch)."""
        if target.shape != output.shape:
            raise ValueError(f"target of shape {target.shape}: needed {output.shape}, that of the output")
        return target

    def _loss(self, network: Network, target: np.ndarray, output: np.ndarray) -> np.ndarray:
        """The loss of each sample."""
        target = self._target(target, output)
        if network.loss == "mse":
            return 0.5 * np.sum((target - output) ** 2, axis=1)
        top = output.max(axis=1, keepdims=True)
        normaliser = top + np.log(np.sum(np.exp(output - top), axis=1, keepdims=True))
        return np.sum(target * (normaliser - output), axis=1)

    def _errors(self, network: Network, z: list[np.ndarray], target: np.ndarray) -> list[np.ndarray]:
        r"""\(\varepsilon_1, \dots, \varepsilon_{L-1}, \lambda\varepsilon_L\)."""
        errors = [z[l] - self._prediction(network, l, z[l - 1]) for l in range(1, network.depth)]
        output = self._prediction(network, network.depth, z[-1])
        return [*errors, self._precision(network) * self._output_error(network, target, output)]

    def _precision(self, network: Network) -> float:
        return network.precision

    def _energy_term(self, network: Network, l: int, z: list[np.ndarray], target: np.ndarray) -> np.floating:
        prediction = self._prediction(network, l, z[l - 1])
        if l == network.depth:
            return np.mean(self._precision(network) * self._loss(network, target, prediction))
        return np.mean(0.5 * np.sum((z[l] - prediction) ** 2, axis=1))

    def _feedback(self, network: Network, l: int, below: np.ndarray, error: np.ndarray) -> np.ndarray:
        r"""\(\partial f_l/\partial z_{l-1}\), transposed, at `below`, applied to an error of layer `l`."""
        back = self._scaling(network, l) * self._gain(network, l, below, error) @ network.weights[l - 1]
        if network.placement == "before-weight" and l > 1:
            back = self._phi_derivative(network, below) * back
        return self._skip(network, l, error) + back if network.skips[l - 1] else back

    def _gain(self, network: Network, l: int, below: np.ndarray, error: np.ndarray) -> np.ndarray:
        """The error of layer `l` on the near side of the activation."""
        if network.placement == "after-weight" and l < network.depth:
            return self._phi_derivative(network, self._drive(network, l, below)) * error
        return error

    def _activity_gradient(self, network: Network, l: int, z: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
        return errors[l - 1] - self._feedback(network, l + 1, z[l], errors[l])

    def _step(self, network: Network, z: list[np.ndarray], target: np.ndarray, step_size: float) -> list[np.ndarray]:
        errors = self._errors(network, z, target)
        moved = [z[l] - step_size * self._activity_gradient(network, l, z, errors) for l in range(1, network.depth)]
        return [z[0], *moved]

    def _weight_gradient(self, network: Network, l: int, below: np.ndarray, error: np.ndarray) -> np.ndarray:
        outer = self._gain(network, l, below, error).T @ self._presynaptic(network, l, below)
        return -(self._scaling(network, l) / len(error)) * outer

    def _weight_gradients(self, network: Network, z: list[np.ndarray], errors: list[np.ndarray]) -> list[np.ndarray]:
        return [self._weight_gradient(network, l, z[l - 1], errors[l - 1]) for l in range(1, network.depth + 1)]

    def _update(self, weight: np.ndarray, gradient: np.ndarray, learning_rate: float) -> np.ndarray:
        return weight - learning_rate * gradient

    # ---- equilibria: errors are the free variables, side by side in one array (batch, sum of widths) --------------

    def _from_errors(self, network: Network, input: np.ndarray, e: np.ndarray) -> list[np.ndarray]:
        z = [input]
        for l, part in enumerate(self._layers(network, e), start=1):
            z.append(self._prediction(network, l, z[-1]) + part)
        return z

    def _error_gradient(self, network: Network, z: list[np.ndarray], e: np.ndarray, target: np.ndarray) -> np.ndarray:
        output = self._prediction(network, network.depth, z[-1])
        deltas = [self._precision(network) * self._output_error(network, target, output)]
        for l in range(network.depth, 1, -1):
            deltas.insert(0, self._feedback(network, l, z[l - 1], deltas[0]))
        return e - np.concatenate(deltas[:-1], axis=1)

    def _layers(self, network: Network, e: np.ndarray) -> list[np.ndarray]:
        return np.split(e, np.cumsum(network.dims[1:-1])[:-1], axis=1)

    def _sample_energies(self, network: Network, z: list[np.ndarray], e: np.ndarray, target: np.ndarray) -> np.ndarray:
        output = self._prediction(network, network.depth, z[-1])
        return 0.5 * np.sum(e * e, axis=1) + self._precision(network) * self._loss(network, target, output)

    def _closed_form(self, network: Network, input: np.ndarray, target: np.ndarray) -> np.ndarray:
        r"""The errors \(\varepsilon = J^\top v\) for which the output's error is \(v/\lambda\).

        With \(J\) the derivative of the output by all errors, \((I/\lambda + J J^\top) v = y - \hat y\): a solve
        of the size of the output; done again on what rounding left over.
        """
        rows = [np.eye(network.dims[-1], dtype=network.dtype)]
        for l in range(network.depth, 1, -1):
            anywhere = np.zeros((network.dims[-1], network.dims[l - 1]), dtype=network.dtype)
            rows.insert(0, self._feedback(network, l, anywhere, rows[0]))
        J = np.concatenate(rows[:-1], axis=1)
        S = np.eye(len(J), dtype=J.dtype) / self._precision(network) + J @ J.T
        v = np.zeros_like(target)
        for _ in range(3):
            z = self._from_errors(network, input, v @ J)
            output = self._prediction(network, network.depth, z[-1])
            left = self._output_error(network, target, output) - v / self._precision(network)
            v = v + np.linalg.solve(S, left.T).T
        return v @ J

    def _minimise(
        self, network: Network, input: np.ndarray, target: np.ndarray, memory: int = 20, iterations: int = 1000
    ) -> tuple[np.ndarray, int]:
        """L-BFGS from zero errors, every sample for itself, until rounding or a kink stops it; errors and evaluations.

        A minimum on a kink of ReLU has no gradient of zero: there the energy comes to rest long before the gradient.
        """

        def evaluate(e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = self._from_errors(network, input, e)
            return self._sample_energies(network, z, e, target), self._error_gradient(network, z, e, target)

        eps = float(np.finfo(network.dtype).eps)
        e = np.zeros((len(input), sum(network.dims[1:-1])), dtype=network.dtype)
        F, g = evaluate(e)
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        count, idle = 1, 0
        for _ in range(iterations):
            direction = -_two_loops(g, pairs)
            slope = np.sum(direction * g, axis=1)
            uphill = slope >= 0
            direction[uphill], slope = -g[uphill], np.where(uphill, -np.sum(g * g, axis=1), slope)
            step, accepted = np.ones(len(e), dtype=e.dtype), np.zeros(len(e), dtype=bool)
            trial, F_trial, g_trial = e, F, g
            while not accepted.all() and step[~accepted].max(initial=0) > 1e-10:
                trial = e + step[:, None] * direction
                F_trial, g_trial = evaluate(trial)
                count += 1
                # Near the optimum differences of energies are rounding; the slope (Hager and Zhang 2005) is not.
                armijo = F_trial <= F + 1e-4 * step * slope
                flat = np.abs(np.sum(g_trial * direction, axis=1)) <= 0.9 * np.abs(slope)
                accepted = armijo | (flat & (F_trial <= F + 4 * eps * np.abs(F)))
                step = np.where(accepted, step, 0.5 * step)
            moved = accepted & (np.linalg.norm(g, axis=1) > 100 * _rounding_of(e, g))
            idle = 0 if np.any(moved & (F - F_trial > 100 * eps * np.abs(F))) else idle + 1
            if not moved.any() or idle > 10:
                break
            s, y = np.where(moved[:, None], trial - e, 0), np.where(moved[:, None], g_trial - g, 0)
            pairs = [*pairs[-memory + 1 :], (s, y)]
            e, F, g = e + s, np.where(moved, F_trial, F), np.where(moved[:, None], g_trial, g)
        return e, count


def _rounding_of(e: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """What rounding leaves of each sample's gradient: in proportion to the two terms whose difference it is."""
    return np.finfo(e.dtype).eps * (np.linalg.norm(e, axis=1) + np.linalg.norm(e - gradient, axis=1))


def _two_loops(g: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The L-BFGS approximation of the inverse Hessian times the gradient, sample by sample (Nocedal 1980)."""
    curvatures = [np.sum(s * y, axis=1, keepdims=True) for s, y in pairs]
    factors = []
    for (s, y), sy in zip(reversed(pairs), reversed(curvatures), strict=True):
        factor = np.divide(np.sum(s * g, axis=1, keepdims=True), sy, out=np.zeros_like(sy), where=sy > 0)
        factors.insert(0, factor)
        g = g - factor * y
    # The Hessian in error space is the identity plus a term of low rank: the identity is the right beginning.
    for (s, y), sy, factor in zip(pairs, curvatures, factors, strict=True):
        back = np.divide(np.sum(y * g, axis=1, keepdims=True), sy, out=np.zeros_like(sy), where=sy > 0)
        g = g + (factor - back) * s * (sy > 0)
    return g
