"""Inference of the reference: steps on the activities, and how they are laid out for speed."""
