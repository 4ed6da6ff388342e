"""The reference beyond MLPs: residual chains of layers, CNNs and transformers."""
