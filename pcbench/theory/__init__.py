r"""Closed forms, limit laws and certificates of predictive coding networks.

Plain float64 NumPy, independent of `pcbench.oracle.mlp` and of the JAX reference; the three meet only in the laws.
"""

from pcbench.theory.certificate import Certificate as Certificate
from pcbench.theory.certificate import certify as certify
from pcbench.theory.certificate import error_gradient as error_gradient
from pcbench.theory.envelope import Envelope as Envelope
from pcbench.theory.envelope import envelope_activities as envelope_activities
from pcbench.theory.envelope import solve_envelope as solve_envelope
from pcbench.theory.expectation import expected_trace_excess as expected_trace_excess
from pcbench.theory.expectation import expected_trace_excess_of as expected_trace_excess_of
from pcbench.theory.hessian import activity_hessian as activity_hessian
from pcbench.theory.hessian import best_step_size as best_step_size
from pcbench.theory.hessian import contraction as contraction
from pcbench.theory.hessian import extreme_eigenvalues as extreme_eigenvalues
from pcbench.theory.hessian import hessian_product as hessian_product
from pcbench.theory.hessian import largest_eigenvalue_bound as largest_eigenvalue_bound
from pcbench.theory.hessian import orthogonal_chain_spectrum as orthogonal_chain_spectrum
from pcbench.theory.hessian import step_size_threshold as step_size_threshold
from pcbench.theory.hessian import top_eigenvector as top_eigenvector
from pcbench.theory.linear import energy_bounds as energy_bounds
from pcbench.theory.linear import equilibrium_activities as equilibrium_activities
from pcbench.theory.linear import equilibrium_energies as equilibrium_energies
from pcbench.theory.linear import equilibrium_energy as equilibrium_energy
from pcbench.theory.linear import equilibrium_errors as equilibrium_errors
from pcbench.theory.linear import equilibrium_matrix as equilibrium_matrix
from pcbench.theory.linear import equilibrium_weight_gradients as equilibrium_weight_gradients
from pcbench.theory.linear import layer_maps as layer_maps
from pcbench.theory.linear import loss as loss
from pcbench.theory.linear import output_jacobians as output_jacobians
from pcbench.theory.linear import predict as predict
from pcbench.theory.linear import residual as residual
from pcbench.theory.mean_field import LearningCurve as LearningCurve
from pcbench.theory.mean_field import learning_curve as learning_curve
from pcbench.theory.one_sided import OneSided as OneSided
from pcbench.theory.one_sided import gradient_of_piece as gradient_of_piece
from pcbench.theory.one_sided import one_sided_residual as one_sided_residual
from pcbench.theory.stability import Regime as Regime
from pcbench.theory.stability import expected_growth as expected_growth
from pcbench.theory.stability import regime as regime
