"""Processes of our own: started with their CPUs, asked what they have used, and ended, by pid."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

PATIENCE = 10


class Process:
    """A program in a session of its own, so that all processes that come of it are known."""

    def __init__(self, argv, directory, cpus, environment=None):
        self.log = directory / f"{Path(argv[0]).name}.log"
        with self.log.open("ab") as log:
            pinned = ["taskset", "-c", ",".join(map(str, cpus)), *map(str, argv)]
            self.process = subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
                                            env={**os.environ, **(environment or {})}, start_new_session=True)

    def pids(self):
        """Those of the session that live."""
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        return [pid for pid in pids if self._is_ours(pid)]

    def _is_ours(self, pid):
        try:
            state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            return False
        return int(session) == self.process.pid and state != "Z"

    def cpu_seconds(self):
        """CPU time of all of it, user and system, to the nanosecond: the kernel's clock of each process."""
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids())

    def memory_mib(self):
        """Memory of all of it. What its processes share counts once."""
        lines = [line for pid in self.pids() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    def wait_for(self, port):
        """Waits until it listens."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"it does not listen; it says: {self.log.read_text()[-500:]}")

    def stop(self):
        """Ends it and waits for that."""
        for name in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.pids():
                try:
                    os.kill(pid, name)
                except ProcessLookupError:
                    pass
            end = time.monotonic() + 3
            while time.monotonic() < end:
                self.process.poll()
                if not self.pids():
                    return
                time.sleep(0.02)


def free_port():
    """One that the kernel chooses."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def busy_seconds():
    """CPU time of everything on the machine so far; without what a host took away."""
    user, nice, system, _idle, _wait, hard, soft = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + hard + soft) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(at_most=20):
    """Waits until the machine has nothing else to do, less than a tenth of one CPU; on a busy one not for long, the results tell it."""
    end = time.monotonic() + at_most
    while time.monotonic() < end:
        before = busy_seconds()
        time.sleep(0.5)
        if (busy_seconds() - before) / 0.5 < 0.1:
            return
