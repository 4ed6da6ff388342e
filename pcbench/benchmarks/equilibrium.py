"""asv benchmarks of the implementation's own equilibrium solver: seconds and gradient evaluations.

A solver that stops early is not fast: an equilibrium without a certificate is an error, not a number.
"""

from __future__ import annotations

from pcbench.benchmarks.process import Benchmark, adapt_dtype, measure_method, offer, require, unit
from pcbench.benchmarks.settings import read_settings
from pcbench.problem.mlp import Problem

__all__ = ["CertifiedEquilibrium"]

_SMALL = ("N=64,L=8,B=16",)
_FULL = (*_SMALL, "N=64,L=32,B=16", "N=256,L=8,B=64", "N=512,L=16,B=64")


class CertifiedEquilibrium(Benchmark):
    """The `equilibrium` of the implementation, in float64 if it claims that, of linear and of tanh networks."""

    params = (_FULL if read_settings().full else _SMALL, ("linear", "tanh"))
    param_names = ("net", "activation")

    def setup(self, net: str, activation: str) -> None:
        """Whether the implementation has a solver and the activation."""
        if activation not in offer().manifest.capabilities.activations:
            raise NotImplementedError(f"{activation} is not claimed")
        require(adapt_dtype(_problem(net, activation)), "equilibrium")

    @unit("s")
    def track_seconds(self, net: str, activation: str) -> float:
        """Seconds of one call."""
        return measure_method("equilibrium", adapt_dtype(_problem(net, activation)))["seconds"]

    @unit("evaluations")
    def track_evaluations(self, net: str, activation: str) -> float:
        """Evaluations of a gradient, as the solver counts them; not a number if it does not."""
        return measure_method("equilibrium", adapt_dtype(_problem(net, activation))).get("evaluations", float("nan"))


def _problem(net: str, activation: str) -> Problem:
    return Problem.from_line(f"D=32,K=10,{net},residual=true,seed=1").replace(activation=activation)
