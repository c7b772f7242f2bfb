#!/usr/bin/env python3
"""Computes what a number of sessions needs of Redis, and prints it as Markdown: capacity.py [RUN.json] [OPTIONS]

The figures of a session come from a run of bin/bench, the newest in bench/runs that has them. Options override
them, and change the assumptions. `--help` lists both. `--update guides/capacity.md` renews the guide's tables.

    sign-ins a second    = sessions / life
    page views a second  = sessions / page view interval
    Redis's CPU time     = sign-ins a second x (sign-in + sign-out) + page views a second x page view
    data                 = sessions x bytes of a session
    web nodes            = page views a second / page views of a web node
    connections          = web nodes x pool size, to each primary
    room of a primary    = memory x (1 - reserve) / fragmentation - connections x bytes of a connection
    primaries            = the larger of data / room and Redis's CPU time / load; a Cluster has at least 3
    Redis nodes          = primaries x (1 + replicas)

All are rounded up. A session lives until it is signed out of, or renewed under a new id: both take a sign-out,
and a renewal takes a sign-in too. Bytes and CPU time are larger on a Cluster: it lists the keys of each slot,
replicates, and its nodes get shorter pipelines.
"""

import argparse
import json
import re
from math import ceil
from pathlib import Path

RUNS = Path(__file__).parent / "runs"
OURS = "pow_redis_cache"
GB = 1e9
# Redis's default.
MAXCLIENTS = 10_000
CALLS = ["sign_in", "page_view", "sign_out"]
VISIT = [*CALLS, "list_sessions"]
GIVEN = ["bytes", "connection_bytes", *(f"{call}_us" for call in CALLS)]


def main():
    inputs = parse()
    metrics = json.loads((inputs.run or newest()).read_text())["other_metrics"]
    figures = measured(metrics, inputs)
    tables = [footprint(metrics), cluster_load(metrics), of_one_gb(figures, inputs), needs(figures, inputs)]
    print("\n\n".join(tables))
    if inputs.update:
        update(inputs.update, tables)


def update(document, tables):
    """Replaces the tables of a document, which has only these."""
    parts = re.split(r"^\|.*\|\n(?:^\|.*\|\n)+", document.read_text(), flags=re.MULTILINE)
    if len(parts) != len(tables) + 1:
        raise SystemExit(f"{document} has {len(parts) - 1} tables, not {len(tables)}.")
    document.write_text(parts[0] + "".join(f"{new}\n{part}" for new, part in zip(tables, parts[1:])))


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN.json")
    parser.add_argument("--update", type=Path, metavar="DOCUMENT", help="replace the tables of a document too")
    assumed = parser.add_argument_group("assumptions")

    def assume(name, default, help, kind=positive):
        assumed.add_argument(name, type=kind, default=default, help=f"{help} ({default:g})")

    assumed.add_argument(
        "--sessions", type=positive, nargs="+", default=[1e6, 1e8, 1e9], help="at the same time (1e6 1e8 1e9)"
    )
    assume("--life", 900, "seconds from a sign-in to the renewal or the end of a session")
    assume("--page-view-interval", 300, "seconds between two page views of a session")
    assume("--node-memory", 16, "GB of a Redis node")
    assume("--reserve", 0.4, "share of a node's memory for the system, replication and copies during a save", float)
    assume("--fragmentation", 1.15, "resident memory to used memory")
    assume("--load", 0.5, "share of a core that Redis may use on average")
    assume("--replicas", 1, "replicas of a primary", int)
    assume("--web-node-page-views", 1000, "page views a second of a web node")
    assume("--pool-size", 2, "connections of a web node to a primary")
    figures = parser.add_argument_group("figures, instead of those of the run", "CPU time is Redis's, in microseconds")
    for name in GIVEN:
        figures.add_argument(f"--{name.replace('_', '-')}", type=positive)
    return parser.parse_args()


def positive(text):
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got: {text}")
    return value


def newest():
    """The newest run with the figures."""
    for run in sorted(RUNS.glob("20*.json"), reverse=True):
        if {"footprint", "cluster_load", "memory"} <= json.loads(run.read_text())["other_metrics"].keys():
            return run
    raise SystemExit(f"no run in {RUNS} has the figures. Run bin/bench, or name a run.")


def measured(metrics, inputs):
    """The figures of a session with the default index, on one primary and on a Cluster."""
    single = of_client(metrics["footprint"], OURS)
    cluster = of_client(metrics["cluster_load"], OURS)
    nodes, users = cluster["nodes"], cluster["users"]
    figures = {
        "single": {f"{call}_us": single[call]["redis_cpu_us"] for call in CALLS} | {"bytes": single["bytes"]},
        "cluster": {f"{call}_us": sum(node[call]["redis_cpu_us"] for node in nodes) / users for call in CALLS}
        | {"bytes": sum(node["bytes"] for node in nodes) / users},
    }
    connection = {"connection_bytes": metrics["memory"]["per_idle_connection"]["redis"]}
    given = {name: value for name in GIVEN if (value := getattr(inputs, name)) is not None}
    return {topology: found | connection | given for topology, found in figures.items()}


def of_client(results, client):
    return next(result for result in results if result["client"] == client)


def footprint(metrics):
    rows = [
        [
            result["client"],
            number(result["bytes"]),
            number(result["bytes_half_signed_out"]),
            f"{result['sign_in']['commands']:.1f}",
            *(f"{result[call]['redis_cpu_us']:.0f} µs" for call in CALLS),
        ]
        for result in metrics["footprint"]
    ]
    sign_ins = number(metrics["footprint"][0]["sign_ins"])
    return table(
        [
            f"{sign_ins} sign-ins",
            "bytes a sign-in",
            "after half signed out",
            "commands a sign-in",
            "Redis's CPU time: sign-in",
            "page view",
            "sign-out",
        ],
        rows,
    )


def cluster_load(metrics):
    rows = [
        [
            result["client"],
            spread([node["sign_in"]["commands"] for node in result["nodes"]]),
            spread([sum(node[call]["commands"] for call in VISIT) for node in result["nodes"]]),
            spread([node["bytes"] for node in result["nodes"]]),
            f"{number(result['largest_key']['bytes'])} bytes, `{result['largest_key']['name']}`",
        ]
        for result in metrics["cluster_load"]
    ]
    users = number(metrics["cluster_load"][0]["users"])
    return table(
        [
            f"{users} users, busiest : least busy of 3 primaries",
            "commands of sign-ins",
            "commands of visits",
            "memory",
            "largest key",
        ],
        rows,
    )


def spread(loads):
    return f"{max(loads) / min(loads):.2f}"


def of_one_gb(figures, inputs):
    """What a GB and a primary are enough for."""
    usable = GB * (1 - inputs.reserve) / inputs.fragmentation
    core = 1e6 * inputs.load
    rows = [
        ("sessions in a GB of data", lambda one: GB / one["bytes"]),
        ("sessions in a GB of a node's memory", lambda one: usable / one["bytes"]),
        ("sign-ins a second, and nothing else", lambda one: core / one["sign_in_us"]),
        (
            "sessions that begin and end a second, and nothing else",
            lambda one: core / (one["sign_in_us"] + one["sign_out_us"]),
        ),
        ("page views a second, and nothing else", lambda one: core / one["page_view_us"]),
    ]
    return table(
        ["enough for", "a single primary", "each primary of a Cluster"],
        [[name, *(number(count(figures[topology])) for topology in ["single", "cluster"])] for name, count in rows],
    )


def needs(figures, inputs):
    columns = [need(sessions, figures, inputs) for sessions in inputs.sessions]
    head, *rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return table(head, rows)


def need(sessions, figures, inputs):
    """What these sessions need, by the names of the table's rows."""
    single = requirement(sessions, figures["single"], inputs)
    cluster = single["primaries"] > 1
    found = requirement(sessions, figures["cluster"], inputs) if cluster else single
    primaries = max(3, found["primaries"]) if cluster else 1
    nodes = primaries * (1 + inputs.replicas)
    over = " (more than `maxclients`)" if found["connections"] > MAXCLIENTS else ""
    return {
        "sessions": number(sessions),
        "sign-ins a second": number(found["sign_ins"]),
        "page views a second": number(found["page_views"]),
        "data": f"{found['data'] / GB:,.1f} GB",
        "Redis's CPU time": f"{found['cpu']:,.2f} cores",
        "topology": "Cluster" if cluster else "Sentinel" if inputs.replicas else "standalone",
        "primaries for the memory": number(found["by_memory"]),
        "primaries for the CPU time": number(found["by_cpu"]),
        "primaries": number(primaries),
        "Redis nodes": number(nodes),
        "memory of these nodes": f"{nodes * inputs.node_memory:,.0f} GB",
        "web nodes": number(found["web_nodes"]),
        "connections of a primary": number(found["connections"]) + over,
        "connections of a web node": number(primaries * inputs.pool_size),
    }


def requirement(sessions, figures, inputs):
    """The formulas above, with the figures of one topology."""
    sign_ins = sessions / inputs.life
    page_views = sessions / inputs.page_view_interval
    session_us = figures["sign_in_us"] + figures["sign_out_us"]
    cpu = (sign_ins * session_us + page_views * figures["page_view_us"]) / 1e6
    data = sessions * figures["bytes"]
    web_nodes = ceil(page_views / inputs.web_node_page_views)
    connections = web_nodes * inputs.pool_size
    memory = inputs.node_memory * GB * (1 - inputs.reserve) / inputs.fragmentation
    room = memory - connections * figures["connection_bytes"]
    if room <= 0:
        raise SystemExit("the connections leave no memory for data. Use larger nodes or fewer connections.")
    by_memory, by_cpu = ceil(data / room), ceil(cpu / inputs.load)
    return {
        "sign_ins": sign_ins,
        "page_views": page_views,
        "cpu": cpu,
        "data": data,
        "web_nodes": web_nodes,
        "connections": connections,
        "by_memory": by_memory,
        "by_cpu": by_cpu,
        "primaries": max(by_memory, by_cpu),
    }


def number(value):
    return f"{value:,.0f}"


def table(head, rows):
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


if __name__ == "__main__":
    main()
