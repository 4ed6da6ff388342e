"""Test problems as data: arrays, networks, parameterisations and problems."""
