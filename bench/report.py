"""Writes the tables (Markdown) and the chart (SVG) of a run: report.py RUN.json"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from capacity import cluster_load, footprint

OURS = "pow_redis_cache"
CLIENTS = [
    OURS, "Pow backend v2 on Redix", "Pow backend v1 on Redix", "Pow backend v2 on eredis", "Pow backend v1 on eredis",
    "redis-benchmark", "ets", "pow_redis_cache, index: true",
]
COLOURS = ["#c1440e", "#5b7db1", "#9db6d6", "#6d9f71", "#b5d0b7", "#999999", "#dddddd", "#e39a7b"]
CHART = [
    ("get", 1), ("get", 8), ("get", 64), ("get", 512), ("sign-in", 64), ("sign-out", 64),
    ("put one key", 64), ("delete one key", 64),
    ("sessions of a user, 1000 keys", 64), ("sessions of a user, 1000000 keys", 64),
    ("all users, 100000", 1),
]


def main(path):
    run = json.loads(path.read_text())
    path.with_suffix(".md").write_text(table(run))
    chart(run).savefig(path.with_suffix(".svg"), metadata={"Date": None})


SUMMARY = [OURS, "Pow backend v2 on Redix", "Pow backend v2 on eredis"]


def summary(run):
    """The rates and medians of the clients that an app would use."""
    names = clients(run, SUMMARY)
    networks = [("loopback", "loopback"), ("1 ms", "1 ms round trip")]
    heads = [f"{label(name)}, {network}" for _, network in networks for name in names]
    lines = [describe(run), "", "| calls per second (p50) | callers | " + " | ".join(heads) + " |"]
    lines.append("|---|---|" + "---|" * len(heads))
    near, far = (scenarios(run, network) for network, _ in networks)
    for (scenario, callers), results in near.items():
        cells = [brief(found.get(name)) for found in (results, far[scenario, callers]) for name in names]
        lines.append(f"| {scenario} | {callers:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def brief(result):
    return "–" if result is None else f"{number(result['rate'])} ({duration(result['p50_us'])})"


def table(run):
    everyone = clients(run, CLIENTS)
    lines = [summary(run), "", "## In full", ""]
    for network, title in [("loopback", "loopback"), ("1 ms", "1 ms round trip")]:
        names = [name for name in everyone if name != "ets" or network == "loopback"]
        lines += [
            f"| {title}: calls per second (p50, p99) | callers | " + " | ".join(map(label, names)) + " |",
            "|---|---|" + "---|" * len(names),
        ]
        for (scenario, callers), results in scenarios(run, network).items():
            cells = [cell(results.get(name)) for name in names]
            lines.append(f"| {scenario} | {callers:,} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += costs(run, [name for name in everyone if name not in ("redis-benchmark", "ets")])
    metrics = run.get("other_metrics", {})
    for name, of in [("footprint", footprint), ("cluster_load", cluster_load), ("near_cache", near_cache)]:
        if name in metrics:
            lines += [of(metrics), ""]
    lines += other_metrics(metrics)
    return "\n".join(lines).rstrip() + "\n"


def clients(run, names):
    """Those of the names that the run has results of."""
    measured = {result["client"] for result in run["scenarios"]}
    return [name for name in names if name in measured]


def label(name):
    return "ETS" if name == "ets" else name


def describe(run):
    machine, versions, settings = run["machine"], run["versions"], run["settings"]
    redix = f", Redix {versions['redix']}" if versions["redix"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['os']}, Erlang/OTP {versions['otp']}, "
        f"Elixir {versions['elixir']}, Redis {versions['redis']}, eredis {versions['eredis']}{redix}, "
        f"commit {versions['commit']}. Medians of {settings['rounds']} rounds of {settings['ms'] / 1000:g} s, in which the "
        "clients take turns."
    )


def scenarios(run, network):
    """The results by scenario and callers, and then by client."""
    found = {}
    for result in run["scenarios"]:
        if result["network"] == network:
            found.setdefault((result["scenario"], result["callers"]), {})[result["client"]] = result
    return found


def cell(result):
    if result is None:
        return "–"
    return f"{number(result['rate'])} ({duration(result['p50_us'])}, {duration(result['p99_us'])})"


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def duration(us):
    for size, unit in [(1e6, "s"), (1e3, "ms")]:
        if us >= size:
            return f"{us / size:.3g} {unit}"
    return f"{us:.3g} µs"


def costs(run, names):
    lines = [
        "| per call, loopback: CPU time of the VM, CPU time of Redis, commands | callers | "
        + " | ".join(map(label, names)) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for (scenario, callers), results in scenarios(run, "loopback").items():
        cells = [
            f"{duration(r['vm_cpu_us'])}, {duration(r['redis_cpu_us'])}, {r['commands']:,.3g}" if r else "–"
            for r in (results.get(name) for name in names)
        ]
        lines.append(f"| {scenario} | {callers:,} | " + " | ".join(cells) + " |")
    return lines + [""]


NEAR = "pow_redis_cache, near_cache: true"


def near_cache(metrics):
    """Reads from memory, calls that go to Redis, how long deleted sessions are read, and memory."""
    near = metrics["near_cache"]
    hits, calls = near["hits"], near["calls"]
    lines = near_table("reads from memory, loopback", hits, [NEAR, "ets", "Pow backend v2 on Redix"], lambda row: row["record"])
    for network, title in [("loopback", "loopback"), ("1 ms", "1 ms round trip")]:
        rows = [row for row in calls if row["network"] == network]
        lines += near_table(title, rows, [NEAR, OURS, "Pow backend v2 on Redix"], lambda row: row["call"])
    deletion, memory = near["deletion"], near["memory"]
    begun, ended = (f"{duration(deletion[of]['p50_us'])}, p99 {duration(deletion[of]['p99_us'])}" for of in ("from_begin", "from_end"))
    lines += [
        f"- A session that another instance deletes, while 64 callers read ({deletion['sessions']} sessions): from the "
        f"beginning of the delete to the beginning of the last read that returned it, p50 {begun}; from its end, p50 {ended}.",
        f"- The VM's memory after {memory['users']:,} sessions and users were read: {memory['bytes'] / memory['max_bytes']:.2f} "
        "of `:max_bytes` more than without a near cache.",
    ]
    return "\n".join(lines)


def near_table(title, rows, names, of):
    names = [name for name in names if any(row["client"] == name for row in rows)]
    lines = [
        f"| near cache, {title}: calls per second (p50) | callers | " + " | ".join(map(label, names)) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for key in dict.fromkeys((of(row), row["callers"]) for row in rows):
        found = {row["client"]: row for row in rows if (of(row), row["callers"]) == key}
        lines.append(f"| {key[0]} | {key[1]} | " + " | ".join(brief(found.get(name)) for name in names) + " |")
    return lines + [""]


def other_metrics(metrics):
    lines = []
    for time in metrics.get("scheduler_time", []):
        lines.append(
            f"- A get occupies a scheduler in the NIF for {duration(time['mean_us'])} on average, p50 "
            f"{duration(time['p50_us'])}, p99 {duration(time['p99_us'])}, p99.9 {duration(time['p999_us'])} "
            f"({plural(time['callers'], 'caller')})."
        )
    for result in metrics.get("mixed_workload", []):
        lines.append(
            f"- A get while all users are listed among a million keys, {label(result['client'])}, "
            f"{plural(result['callers'], 'caller')}: p50 {duration(result['mixed_p50_us'])}, p99 "
            f"{duration(result['mixed_p99_us'])}; without the listing {duration(result['gets_only_p50_us'])}, "
            f"{duration(result['gets_only_p99_us'])}. The listing: {duration(result['mixed_list_us'])}; without "
            f"the gets {duration(result['list_us'])}."
        )
    if "cold_start_ms" in metrics:
        times = ", ".join(f"{label(name)} {ms:.3g} ms" for name, ms in metrics["cold_start_ms"].items())
        lines.append(f"- From the start of the client to the first reply, in a new VM: {times}.")
    if "memory" in metrics:
        memory = metrics["memory"]
        sizes = ", ".join(
            f"{label(name)} {bytes['vm'] / 1024:.3g} kB" for name, bytes in memory["per_waiting_call"].items()
        )
        lines.append(f"- Memory of the VM for a waiting call and its process: {sizes}.")
        idle = memory["per_idle_connection"]
        lines.append(
            f"- One more connection: {idle['resident'] / 1024:.3g} kB in the VM, {idle['redis'] / 1024:.3g} kB in Redis."
        )
    if "build" in metrics:
        build = metrics["build"]
        lines.append(
            f"- `mix compile` from scratch, without fetching crates: {build['compile_from_scratch_s']:.3g} s. The library: "
            f"{build['library_bytes'] / 1e6:.2g} MB, stripped {build['stripped_bytes'] / 1e6:.2g} MB."
        )
    return lines


def plural(count, noun):
    return f"{count} {noun}{'s' * (count > 1)}"


def chart(run):
    names = clients(run, [name for name in CLIENTS if name != "ets"])
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 7), sharey=True, layout="constrained")
    for axis, network in zip(axes, ["loopback", "1 ms"]):
        found = scenarios(run, network)
        wanted = [key for key in CHART if key in found]
        height = 0.8 / max(1, len(names))
        for place, name in enumerate(names):
            bars = [(y, found[key][name]["rate"]) for y, key in enumerate(wanted) if name in found[key]]
            axis.barh(
                [y + (place - (len(names) - 1) / 2) * height for y, _ in bars],
                [rate for _, rate in bars],
                height,
                label=label(name),
                color=COLOURS[CLIENTS.index(name)],
            )
        axis.set_xscale("log")
        axis.set_xlabel("calls per second (logarithmic)")
        axis.set_title("loopback" if network == "loopback" else "1 ms round trip")
        axis.grid(axis="x", linewidth=0.3)
        axis.set_yticks(range(len(wanted)), [f"{scenario}, {plural(callers, 'caller')}" for scenario, callers in wanted])
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]))
