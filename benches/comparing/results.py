"""What was measured, as a file: results.json has every run, so that all that is shown can be made again from it."""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from comparing.contenders import found


def load(path):
    """What an earlier run measured."""
    if not path.exists():
        sys.exit(f"benches/compare: there is no {path}; run benches/compare first")
    return json.loads(path.read_text())


def text(outcome):
    """One run a line, for readable changes."""
    runs = ",\n".join(f"    {json.dumps(run)}" for run in outcome["runs"])
    rest = json.dumps({**outcome, "runs": []}, indent=2)
    return rest.replace('"runs": []', f'"runs": [\n{runs}\n  ]') + "\n"


def median(outcome, name, connections, figure):
    return statistics.median(_figures(outcome, name, connections, figure))


def span(outcome, name, connections, figure):
    figures = _figures(outcome, name, connections, figure)
    return min(figures), max(figures)


def _figures(outcome, name, connections, figure):
    return [run[figure] for run in outcome["runs"] if run["name"] == name and run["connections"] == connections]


def machine():
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {"cpu": model[1] if model else platform.machine(), "cpus": os.cpu_count(), "kernel": platform.release()}


def versions(around):
    """What was measured, and with what. Of bare pingora, what it is locked to."""
    lock = (around.root / "benches/floor/Cargo.lock").read_text()
    return {
        "nginx": _said([found("nginx"), "-v"]),
        "HAProxy": _said([found("haproxy"), "-v"]),
        "pingora": re.search(r'name = "pingora"\nversion = "([^"]*)"', lock)[1],
        "Redis": _said([found("redis-server"), "--version"]),
        "wrk": _said(["wrk", "-v"]),
        "mailtrixy-gateway": _said([around.gateway, "--version"]),
    }


def _said(argv):
    """The first version in what a program says of itself; None where there is no program."""
    try:
        said = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    except (FileNotFoundError, PermissionError):
        return None
    version = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)
    return version[0] if version else None


def today():
    return time.strftime("%Y-%m-%d")
