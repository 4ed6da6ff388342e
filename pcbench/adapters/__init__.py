"""Adapters, each of which connects one library to pcbench through the library's public API."""
