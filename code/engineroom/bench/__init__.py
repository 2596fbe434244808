"""Measures what the documentation states, each figure beside a peer: `python -m engineroom.bench`, or `make bench`.

One file per measurement, each with a function `measure(pairs)` that returns its figures.
"""
