"""What was measured, as a table in Markdown, between the two marks of the README."""

import re

from comparing.results import median, span

BEGIN, END = "<!-- benches/compare writes this -->", "<!-- benches/compare wrote this -->"
PICTURE = "![CPU time a request, beside proxies that only forward](benches/compare.svg)"
# Above this share of its core, a proxy is what bounds the requests a second.
BUSY = 0.9


def markdown(outcome):
    """The table, and what it was measured with."""
    connections = outcome["method"]["connections"]
    middle = connections[len(connections) // 2]
    head = ["on one core", "does", *(f"CPU a request, {number} connections" for number in connections),
            f"requests a second, {middle}", f"p50, p99, {middle}", "memory"]
    rows = [head, ["---"] * len(head)]
    for one in outcome["contenders"]:
        name = one["name"]
        rows.append([one["label"], one["does"],
                     *(_cpu(outcome, name, number) for number in connections),
                     f"{_rounded(median(outcome, name, middle, 'per_second')):,}",
                     ", ".join(f"{median(outcome, name, middle, figure) / 1000:.1f} ms" for figure in ("p50_us", "p99_us")),
                     f"{median(outcome, name, connections[-1], 'memory_mib'):.0f} MiB"])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *_circumstances(outcome), *_bounds(outcome, middle)])


def into(readme, outcome):
    """The README with the picture and the table of this outcome; with neither, where nothing was measured yet."""
    told = f"{PICTURE}\n\n{markdown(outcome)}\n" if outcome else ""
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{told}{END}", readme, flags=re.DOTALL)


def _cpu(outcome, name, connections):
    low, high = span(outcome, name, connections, "cpu_us")
    return f"{median(outcome, name, connections, 'cpu_us'):.1f} µs ({low:.1f}–{high:.1f})"


def _rounded(number):
    return round(number / 100) * 100


def _circumstances(outcome):
    method, machine, runs = outcome["method"], outcome["machine"], outcome["runs"]
    versions = ", ".join(f"{name} {version}" for name, version in outcome["versions"].items() if version)
    others = max(run["others_busy"] for run in runs)
    failed = sum(run["failed"] for run in runs)
    rounds = "one round" if method["rounds"] == 1 else f"medians and ranges of {method['rounds']} rounds"
    return [f"{outcome['date']}, {rounds} of {method['seconds']} s, {method['tokens']} tokens in turn, 200 octets of body; "
            f"{machine['cpus']} × {machine['cpu']}, Linux {machine['kernel']}.",
            f"{versions}. Anything else on the machine took at most {others:.0%} of a core; "
            f"{failed or 'none'} of the requests failed."]


def _bounds(outcome, connections):
    """Says so where a proxy was given less than it could do."""
    busy = [(f"{one['label']} ({one['does']})", median(outcome, one["name"], connections, "proxy_busy")) for one in outcome["contenders"]]
    idle = [f"{label} {share:.0%}" for label, share in busy if share < BUSY]
    if idle:
        yield f"Of its core used {'; '.join(idle)}: what they were given to do, or other work, was the bound there."
