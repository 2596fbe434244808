"""Server: the highest VALID rate of the null engine, beside LoadGen with a bare null SUT, searched for both."""

from __future__ import annotations

import os
from functools import partial
from typing import NamedTuple

from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.recipe import Recipe, highest_rate, prepared, workers_beside_loadgen
from engineroom.steps import native
from engineroom.steps.harness import read_log

LOWEST_QPS = 100_000.0
# LoadGen's words; milliseconds. A second is enough for 1,000 queries above the p99.
SETTINGS = {"min_duration": 1000, "target_latency": 10}


class Peer(NamedTuple):
    """How LoadGen issues to a bare SUT, and the ratio to reach; None where it is only to be known."""

    name: str
    coalesce_queries: int
    limit: float | None


ONE_BY_ONE, COALESCED = 0, 1  # by LoadGen's default, and by ours
PEERS = (Peer("bare null SUT, one by one", ONE_BY_ONE, 1.0), Peer("bare null SUT, coalesced", COALESCED, 0.9))


def flags(coalesce_queries: int) -> tuple[str, ...]:
    """Return what our side is run with.

    A worker per core, but where queries come one by one, which keeps LoadGen's issuing thread busy. Batches are as
    large as an engine's that is worth such a rate; a worker fills one with what waits, and waits for none.
    """
    workers = len(os.sched_getaffinity(0)) if coalesce_queries else workers_beside_loadgen()
    return (
        *("--engine=null", "--scenarios=Server", "--server_target_qps=1000"),
        *(f"--instances={workers}", "--batch_size=64"),
    )


def measure(pairs: int) -> list[Figure]:
    """Return the highest rate at which LoadGen calls a test VALID whose p99 latency may be 10 ms."""
    native.build_program("bare_null_sut")
    with prepared(*flags(COALESCED)) as recipe:
        take = {"engineroom": partial(ours, recipe, COALESCED)}
        take |= {peer.name: partial(_bare, recipe, peer) for peer in PEERS}
        taken = interleaved("null engine, Server", pairs, take)
    return [
        Figure(
            "Server, null engine",
            "queries/s",
            taken["engineroom"],
            taken[peer.name],
            peer.name,
            Comparison.RATIO,
            peer.limit,
        )
        for peer in PEERS
    ]


def ours(recipe: Recipe, coalesce_queries: int) -> float:
    """Return the highest rate of the recipe's engine, with coalesced queries or one by one."""

    def valid(rate: float) -> bool:
        settings = {**SETTINGS, "target_qps": rate, "coalesce_queries": coalesce_queries}
        return bool(recipe.run(settings)["result_validity"] == "VALID")

    return highest_rate(valid, LOWEST_QPS)


def _bare(recipe: Recipe, peer: Peer) -> float:
    def valid(rate: float) -> bool:
        settings = {**SETTINGS, "target_qps": rate, "coalesce_queries": peer.coalesce_queries}
        with product.scratch() as folder:
            product.run(product.bare_null_sut(recipe.config, folder, **settings))
            return bool(read_log(folder)["result_validity"] == "VALID")

    return highest_rate(valid, LOWEST_QPS)
