"""What is asked of an implementation, as data: arrays, networks, parameterisations and problems."""
