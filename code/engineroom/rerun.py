"""Entry of a run's recipe/run.sh when a person runs it by hand."""

from __future__ import annotations

import sys

from engineroom import actions

if __name__ == "__main__":
    sys.exit(actions.act("execute", "rerun", lambda: sys.argv[1:]))
