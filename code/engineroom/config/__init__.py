"""Typed settings of one run. `fields` says what they are, `layers` where each value comes from."""

from engineroom.config.fields import RunConfig
from engineroom.config.layers import Origin, Resolved, resolve

__all__ = ["Origin", "Resolved", "RunConfig", "resolve"]
