"""Virtual environments of the libraries under test: what they need, and how they are made."""
