"""One virtual environment for each library under test: what goes in, and how it is made."""
