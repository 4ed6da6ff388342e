"""Phase diagrams of the stable parameterisations."""
