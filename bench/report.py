"""Makes a table (Markdown) and a chart (SVG) of a run: report.py RUN.json"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

OURS = "pow_redis_cache"
SHORT = {
    OURS: "pow_redis_cache",
    "guide (current) on Redix": "guide on Redix",
    "guide (first) on Redix": "guide's first edition on Redix",
    "guide (current) on eredis": "guide on eredis",
    "guide (first) on eredis": "guide's first edition on eredis",
    "redis-benchmark": "redis-benchmark",
    "ets": "ETS",
}
COLOURS = ["#c1440e", "#5b7db1", "#9db6d6", "#6d9f71", "#b5d0b7", "#999999", "#dddddd"]
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


SUMMARY = [OURS, "guide (current) on Redix", "guide (current) on eredis"]


def summary(run):
    """What the README shows: rates and medians, without what is there for comparison only."""
    there = [name for name in SUMMARY if any(row["contender"] == name for row in run["rows"])]
    networks = [("loopback", "loopback"), ("1 ms", "1 ms away")]
    heads = [f"{SHORT[name]}, {label}" for _, label in networks for name in there]
    lines = [describe(run), "", "| calls a second (p50) | callers | " + " | ".join(heads) + " |"]
    lines.append("|---|---|" + "---|" * len(heads))
    near, far = (rows(run, network) for network, _ in networks)
    for (name, callers), row in near.items():
        cells = [brief(found.get(contender)) for found in (row, far[name, callers]) for contender in there]
        lines.append(f"| {name} | {callers:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def brief(row):
    return "–" if row is None else f"{number(row['rate'])} ({duration(row['p50_us'])})"


def table(run):
    names = [name for name in SHORT if any(row["contender"] == name for row in run["rows"])]
    lines = [summary(run), "", "## In full", ""]
    for network, unit in [("loopback", "on loopback"), ("1 ms", "1 ms of round trip away")]:
        there = [name for name in names if name != "ets" or network == "loopback"]
        lines += [
            f"| {unit}: calls a second (p50, p99) | callers | " + " | ".join(SHORT[n] for n in there) + " |",
            "|---|---|" + "---|" * len(there),
        ]
        for (name, callers), row in rows(run, network).items():
            cells = [cell(row.get(contender)) for contender in there]
            lines.append(f"| {name} | {callers:,} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += costs(run, [name for name in names if name not in ("redis-benchmark", "ets")])
    lines += extras(run.get("extras", {}))
    return "\n".join(lines).rstrip() + "\n"


def describe(run):
    machine, versions, settings = run["machine"], run["versions"], run["settings"]
    redix = f", Redix {versions['redix']}" if versions["redix"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['os']}, Erlang/OTP {versions['otp']}, "
        f"Elixir {versions['elixir']}, Redis {versions['redis']}, eredis {versions['eredis']}{redix}, "
        f"commit {versions['commit']}. Medians of {settings['rounds']} rounds of {settings['ms'] / 1000:g} s, in which the "
        "contenders take turns."
    )


def rows(run, network):
    found = {}
    for row in run["rows"]:
        if row["network"] == network:
            found.setdefault((row["row"], row["callers"]), {})[row["contender"]] = row
    return found


def cell(row):
    if row is None:
        return "–"
    return f"{number(row['rate'])} ({duration(row['p50_us'])}, {duration(row['p99_us'])})"


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def duration(us):
    for size, unit in [(1e6, "s"), (1e3, "ms")]:
        if us >= size:
            return f"{us / size:.3g} {unit}"
    return f"{us:.3g} µs"


def costs(run, names):
    lines = [
        "| of a call on loopback: CPU time here, CPU time of Redis, its commands | callers | "
        + " | ".join(SHORT[name] for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for (name, callers), row in rows(run, "loopback").items():
        cells = [
            f"{duration(r['vm_cpu_us'])}, {duration(r['redis_cpu_us'])}, {r['commands']:,.3g}" if r else "–"
            for r in (row.get(contender) for contender in names)
        ]
        lines.append(f"| {name} | {callers:,} | " + " | ".join(cells) + " |")
    return lines + [""]


def extras(found):
    lines = []
    for time in found.get("scheduler_time", []):
        lines.append(
            f"- The native library holds a scheduler for {duration(time['mean_us'])} a get on average, p50 "
            f"{duration(time['p50_us'])}, p99 {duration(time['p99_us'])}, p99.9 {duration(time['p999_us'])} "
            f"({time['callers']} callers)."
        )
    for row in found.get("get_beside_all", []):
        lines.append(
            f"- A get while users are listed among a million keys, {SHORT[row['contender']]}, {row['callers']} callers: p50 "
            f"{duration(row['beside_p50_us'])}, p99 {duration(row['beside_p99_us'])}; without that "
            f"{duration(row['alone_p50_us'])}, {duration(row['alone_p99_us'])}."
        )
    if "cold_start_ms" in found:
        times = ", ".join(f"{SHORT[name]} {ms:.3g} ms" for name, ms in found["cold_start_ms"].items())
        lines.append(f"- From the start to the first answer in a new VM: {times}.")
    if "memory" in found:
        memory = found["memory"]
        times = ", ".join(
            f"{SHORT[name]} {bytes['vm'] / 1024:.3g} kB" for name, bytes in memory["per_waiting_call"].items()
        )
        lines.append(f"- Memory of the VM for a waiting call and its process: {times}.")
        idle = memory["per_idle_connection"]
        lines.append(
            f"- One connection more: {idle['resident'] / 1024:.3g} kB here, {idle['redis'] / 1024:.3g} kB in Redis."
        )
    if "build" in found:
        build = found["build"]
        lines.append(
            f"- `mix compile` from nothing, without fetching crates: {build['compile_from_nothing_s']:.3g} s. The library: "
            f"{build['library_bytes'] / 1e6:.2g} MB, stripped {build['stripped_bytes'] / 1e6:.2g} MB."
        )
    return lines


def chart(run):
    names = [name for name in SHORT if name != "ets" and any(r["contender"] == name for r in run["rows"])]
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 7), sharey=True, layout="constrained")
    for axis, network in zip(axes, ["loopback", "1 ms"]):
        found = rows(run, network)
        wanted = [key for key in CHART if key in found]
        height = 0.8 / len(names)
        for place, name in enumerate(names):
            bars = [(y, found[key][name]["rate"]) for y, key in enumerate(wanted) if name in found[key]]
            axis.barh(
                [y + (place - (len(names) - 1) / 2) * height for y, _ in bars],
                [rate for _, rate in bars],
                height,
                label=SHORT[name],
                color=COLOURS[list(SHORT).index(name)],
            )
        axis.set_xscale("log")
        axis.set_xlabel("calls a second (logarithmic)")
        axis.set_title("on loopback" if network == "loopback" else "1 ms of round trip away")
        axis.grid(axis="x", linewidth=0.3)
        axis.set_yticks(range(len(wanted)), [f"{name}, {callers} caller{'s' * (callers > 1)}" for name, callers in wanted])
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]))
