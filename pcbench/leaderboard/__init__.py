"""The leaderboard: speed and accuracy of several implementations in one run, beside their conformance."""
