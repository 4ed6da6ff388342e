"""What a third party writes: an implementation with its manifest, and how it is found and loaded."""
