"""Adapters: each speaks one library's own public API and declares how to read it."""
