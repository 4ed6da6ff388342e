"""The speed of the reference beside that of its peers and of the machine."""
