"""The chain that an architecture given as data describes: layer functions with its weights and scalings."""

from __future__ import annotations

from pcbench.problem.architecture import Architecture
from pcbench.reference.architectures.chain import Chain
from pcbench.reference.architectures.cnn import cnn_layers
from pcbench.reference.architectures.transformer import transformer_layers


def chain_of(network: Architecture) -> Chain:
    """The chain that an architecture describes."""
    sizes, options = network.sizes, network.options
    if network.kind == "cnn":
        layers = cnn_layers(stages=sizes["stages"], blocks=sizes["blocks"], activation=network.activation)
    else:
        discrete = "input_dim" not in sizes
        layers = transformer_layers(
            blocks=sizes["blocks"], heads=sizes["heads"], discrete=discrete, activation=network.activation, **options
        )
    return Chain.from_layers(
        layers,
        network.parameters,
        network.scalings,
        loss=network.loss,
        precision=network.precision,
        activation=network.activation,
        affine=network.kind == "cnn" and network.activation == "linear",
    )
