#!/usr/bin/env python3
"""What the files of a deployment say of each other, which no schema knows. Says what is wrong, and ends with 1 then."""

import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
FOUND = []


def hold(file, what, holds):
    if not holds:
        FOUND.append(f"deploy/{file}: {what}")


def seconds(text):
    written = re.fullmatch(r"(\d+)s", text)
    return int(written.group(1)) if written else 0


def dockerfile():
    text = (DEPLOY / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", text).splitlines()
    last = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM ")) :]
    rust = re.search(r'(?m)^rust-version = "(.*)"', (ROOT / "Cargo.toml").read_text()).group(1)
    hold("Dockerfile", f"does not build with Rust {rust}, as Cargo.toml says", f"FROM rust:{rust}-" in text)
    hold("Dockerfile", "the image does not run as a user that is not root", "USER 65532:65532" in last)
    health = any(re.match(r'HEALTHCHECK .*CMD \["/usr/local/bin/mailtrixy-gateway", "ready"\]', line) for line in last)
    hold("Dockerfile", "the image has no health check that works without a shell", health)
    hold("Dockerfile", "the image has no certificate authorities: its base has to bring them", "distroless/cc" in last[0])
    copied = {source for line in lines if re.match(r"COPY (?!--)", line) for source in line.split()[1:-1]}
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    hold("Dockerfile.dockerignore", f"sends {sorted(sent)}, and the Dockerfile copies {sorted(copied)}", sent == copied)


def compose(gateway, grace):
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            hold("compose.yaml", f"{name} depends on {other}, which is not there", other in services)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            hold("compose.yaml", f"{source} is not there", not source.startswith(".") or (DEPLOY / source).exists())
        hold("compose.yaml", f"{name} may write to its root or keeps capabilities", service.get("read_only") and service.get("cap_drop") == ["ALL"])
    mounted = [volume.split(":")[1] for volume in services["prometheus"]["volumes"]]
    for rules in yaml.safe_load((DEPLOY / "prometheus.yml").read_text()).get("rule_files", []):
        seen = any(f"/etc/prometheus/{rules}".startswith(f"{target}/") for target in mounted)
        hold("compose.yaml", f"Prometheus does not see {rules}, which prometheus.yml names", seen)
    for variable in services["gateway"]["environment"]:
        hold("compose.yaml", f"gateway.yaml has no variable {variable}", f"${{{variable}" in gateway)
    hold("compose.yaml", "stop_grace_period is not longer than shutdown.grace", seconds(services["gateway"].get("stop_grace_period", "10s")) > grace)
    hold("compose.yaml", "the admin port is published", not any(port.endswith(":9090") for port in services["gateway"]["ports"]))


def unit(grace):
    text = (DEPLOY / "mailtrixy-gateway.service").read_text()
    stop = re.search(r"(?m)^TimeoutStopSec=(.*)$", text)
    hold("mailtrixy-gateway.service", "TimeoutStopSec is not longer than shutdown.grace", stop and seconds(stop.group(1)) > grace)
    for setting in ("Type=notify", "ExecReload=/bin/kill -HUP $MAINPID", "DynamicUser=yes", "ProtectSystem=strict"):
        hold("mailtrixy-gateway.service", f"{setting} is missing", setting in text.splitlines())


def main():
    gateway = (ROOT / "gateway.yaml").read_text()
    grace = seconds(yaml.safe_load(gateway)["shutdown"]["grace"])
    dockerfile()
    compose(gateway, grace)
    unit(grace)
    print("\n".join(FOUND), file=sys.stderr, end="\n" if FOUND else "")
    return 1 if FOUND else 0


if __name__ == "__main__":
    sys.exit(main())
