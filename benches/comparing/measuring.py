"""The rounds: everybody in turn, each started anew, under load from wrk."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from comparing import contenders, results, tokens
from comparing.contenders import PATH, Surroundings, found, prove, start_backend
from comparing.processes import Process, busy_seconds, free_port, wait_for_quiet

CONNECTIONS = [16, 64, 256]
WARM_UP = 1
TOKENS = 100

WRK = """
local requests, next = {}, 0
function init()
  for line in io.lines(os.getenv("TOKENS")) do
    requests[#requests + 1] = wrk.format("GET", os.getenv("TARGET"), { ["Authorization"] = "Bearer " .. line })
  end
end
function request()
  next = next % #requests + 1
  return requests[next]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\\nTOLD {"requests": %d, "us": %d, "failed": %d, "p50_us": %d, "p99_us": %d}\\n', summary.requests,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""


def measure(asked, root):
    """Runs it all; whatever it starts it stops."""
    install(root)
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        sys.exit("benches/compare: needs two CPUs: one for the proxy, one for everything else")
    directory = Path(tempfile.mkdtemp(prefix="compare-"))
    around = Surroundings(root, directory, [first], asked.gateway.resolve())
    started = []
    try:
        lay_ground(around, others, started)
        crowd = present(around, asked.only or contenders.NAMES)
        runs = []
        for number in range(asked.rounds):
            turn = number % len(crowd)
            for contender in crowd[turn:] + crowd[:turn]:
                runs += one_round(contender, number, around, others, asked.seconds, started)
    finally:
        for process in reversed(started):
            process.stop()
        shutil.rmtree(directory)
    method = {"rounds": asked.rounds, "seconds": asked.seconds, "connections": CONNECTIONS, "tokens": TOKENS}
    known = [{"name": one.name, "label": one.label, "does": one.does} for one in crowd]
    return {"date": results.today(), "machine": results.machine(), "versions": results.versions(around), "method": method,
            "contenders": known, "runs": runs}


def install(root):
    """What is missing and can be had; who is missing then is said later."""
    subprocess.run([root / "deploy/prepare", "wrk", "nginx", "haproxy", "redis-server", "taskset:util-linux"], check=False)
    for tool in ("wrk", "nginx", "taskset"):
        if not found(tool):
            sys.exit(f"benches/compare: {tool} is missing, and nothing can be measured without it")


def lay_ground(around, cpus, started):
    """Starts the backend and Redis, and writes what wrk reads."""
    (around.directory / "wrk.lua").write_text(WRK)
    (around.directory / "tokens").write_text("".join(f"{tokens.sign(number)}\n" for number in range(TOKENS)))
    around.backend = free_port()
    started.append(start_backend(around, around.backend, cpus))
    started[-1].wait_for(around.backend)
    if found("redis-server"):
        around.redis = free_port()
        argv = [found("redis-server"), "--port", around.redis, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        started.append(Process(argv, around.directory, cpus))
        started[-1].wait_for(around.redis)


def present(around, names):
    """Those whose programs are here, in the order of the table."""
    crowd = []
    for contender in (one for one in contenders.ALL if one.name in names):
        if contender.program(around):
            crowd.append(contender)
        else:
            print(f"benches/compare: without {contender.name}: its program is not here", file=sys.stderr)
    return crowd or sys.exit("benches/compare: there is nobody to measure")


def one_round(contender, number, around, cpus, seconds, started):
    """One contender, fresh, at each number of connections."""
    port = free_port()
    proxy = contender.start(around, port)
    ground, runs = list(started), []
    started.append(proxy)
    try:
        proxy.wait_for(port)
        prove(contender, port, tokens.sign(0))
        load(around, port, cpus, 64, WARM_UP)
        wait_for_quiet()
        for connections in CONNECTIONS:
            runs.append({"name": contender.name, "round": number + 1, "connections": connections,
                         **one_run(proxy, ground, lambda: load(around, port, cpus, connections, seconds))})
    except RuntimeError as problem:
        sys.exit(f"benches/compare: {contender.name}: {problem}")
    finally:
        proxy.stop()
        started.remove(proxy)
    told = ", ".join(f"{run['connections']}: {run['cpu_us']} µs {run['per_second']}/s" for run in runs)
    print(f"round {number + 1}, {contender.name}: {told}", file=sys.stderr, flush=True)
    return runs


def one_run(proxy, ground, run):
    """What a run said, and what it cost whom."""
    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        ours = usage.ru_utime + usage.ru_stime + sum(process.cpu_seconds() for process in ground)
        return proxy.cpu_seconds(), ours, busy_seconds(), time.monotonic()
    before = used()
    told = run()
    cpu, ours, busy, took = (after - earlier for after, earlier in zip(used(), before))
    requests = max(1, told["requests"])
    return {"per_second": round(requests / told["us"] * 1e6), "cpu_us": round(cpu / requests * 1e6, 2), "p50_us": told["p50_us"],
            "p99_us": told["p99_us"], "failed": told["failed"], "memory_mib": round(proxy.memory_mib(), 1),
            "proxy_busy": round(cpu / took, 2), "others_busy": round(max(0.0, busy - cpu - ours) / took, 2)}


def load(around, port, cpus, connections, seconds):
    """One run of wrk."""
    argv = ["taskset", "-c", ",".join(map(str, cpus)), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s",
            "-s", around.directory / "wrk.lua", f"http://127.0.0.1:{port}{PATH}"]
    environment = {**os.environ, "TOKENS": str(around.directory / "tokens"), "TARGET": PATH}
    said = subprocess.run([str(word) for word in argv], capture_output=True, text=True, env=environment, check=False)
    told = re.search(r"^TOLD (.*)$", said.stdout, re.MULTILINE)
    if not told:
        raise RuntimeError(f"wrk says: {said.stdout}{said.stderr}")
    return json.loads(told[1])
