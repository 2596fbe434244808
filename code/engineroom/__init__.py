"""Engineroom builds inference engines, runs them under MLPerf LoadGen and carries the results to a submission."""

__version__ = "0.1.0"
