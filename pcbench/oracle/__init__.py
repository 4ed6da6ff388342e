"""The executable specification of predictive coding networks, in NumPy, and the bounds on its rounding errors."""
