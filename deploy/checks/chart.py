#!/usr/bin/env python3
"""The Helm chart: linted and rendered by Helm itself, every manifest held against the schemas of Kubernetes and of the Prometheus
operator, and wrong values refused with a sentence. Says what is wrong, and ends with 1 then."""

import pathlib
import re
import sys

import helm_python as helm
import kubernetes_validate
import yaml
from cloudcoil.models.prometheus_operator import v1 as operator

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/mailtrixy-gateway"
CONFIG = (ROOT / "gateway.yaml").read_text()
RULES = {file.stem: file.read_text() for file in sorted((ROOT / "deploy/prometheus").glob("*.yml")) if ".test" not in file.name}
# The oldest that the chart names, and the newest that the schemas know.
VERSIONS = ["1.30.0", kubernetes_validate.latest_version()]
SECRET = {"secrets": {"env": ["gateway"]}}


def values(config=CONFIG, **more):
    return {"config": config, **SECRET, **more}


def without(key):
    """gateway.yaml without one of its sections."""
    return re.sub(rf"(?m)^{key}:.*\n((?: .*)?\n)*", "", CONFIG)


EVERYTHING = values(
    restartOnConfigChange=True,
    image={"repository": "registry.example.com/mailtrixy-gateway", "tag": "1", "pullSecrets": ["registry"]},
    env={"CONTACTS_SERVER": "contacts:80", "NUMBER": 1},
    secrets={"env": ["gateway"], "variables": {"REDIS_URL": {"secret": "redis", "key": "url"}}, "files": ["tls", "keys"]},
    service={
        "type": "LoadBalancer",
        "annotations": {"a": "b"},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}],
    },
    autoscaling={"enabled": True},
    networkPolicy={
        "clients": [{"namespaceSelector": {}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 443, "protocol": "TCP"}]}],
    },
    serviceMonitor={"enabled": True, "labels": {"release": "prometheus"}},
    prometheusRule={"enabled": bool(RULES), "files": RULES},
    serviceAccount={"annotations": {"a": "b"}},
    podAnnotations={"a": "b"},
    podLabels={"a": "b"},
    nodeSelector={"kubernetes.io/os": "linux"},
    tolerations=[{"key": "a", "operator": "Exists"}],
    affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    priorityClassName="high",
)
LEAST = values(
    replicas=1,
    preStopSeconds=0,
    podDisruptionBudget={"enabled": False},
    topologySpread={"zones": "", "hosts": ""},
    networkPolicy={"enabled": False},
    serviceAccount={"create": False},
)
GOOD = {
    "what is given without more": values(),
    "everything": EVERYTHING,
    "as little as there can be": LEAST,
    "in memory, one pod": values(without("redis"), replicas=1),
    "a variable in env": values(secrets={"env": []}, env={"MB_SIGNING_SECRET": "x"}),
    "a variable of a secret": values(secrets={"env": [], "variables": {"MB_SIGNING_SECRET": {"secret": "a", "key": "b"}}}),
    "a budget in per cent": values(podDisruptionBudget={"maxUnavailable": "25%"}),
}
GRACE = {"30s": 40, "1m": 70, "1m 30s": 100, "1500ms": 12, "0s": 10, "0": 10, "2min": 130, "1h": 3610, "90 seconds": 100}
BAD = {
    "config is empty": values(""),
    "config is not a YAML file": values("a: [1"),
    "with --set-file config=gateway.yaml": {},
    "got string, want integer": values(replicas="two"),
    "additional properties 'replica' not allowed": values(replica=2),
    "value must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'": values(service={"type": "Public"}),
    "up to 2 replicas and no redis.url": values(without("redis")),
    "up to 10 replicas and no redis.url": values(without("redis"), replicas=1, autoscaling={"enabled": True}),
    "minReplicas (9) is more than maxReplicas (3)": values(autoscaling={"enabled": True, "minReplicas": 9, "maxReplicas": 3}),
    "http leads to port 9999, but the listeners in config that are open to other machines have 8080": values(
        service={"ports": [{"name": "http", "port": 80, "targetPort": 9999}]}
    ),
    "that are open to other machines have none": values(CONFIG.replace("0.0.0.0:8080", "127.0.0.1:8080")),
    "leads to the admin port": values(service={"ports": [{"name": "http", "port": 80, "targetPort": 9090}]}),
    "admin.address in config is 127.0.0.1:9090, where probes do not reach port 9090": values(without("admin")),
    "admin.address in config is 0.0.0.0:9090, where probes do not reach port 9091": values(
        CONFIG.replace("${ADMIN_ADDRESS:-127.0.0.1:9090}", "0.0.0.0:9090"), admin={"port": 9091}
    ),
    "env.ADMIN_ADDRESS is set by this chart": values(env={"ADMIN_ADDRESS": "0.0.0.0:1"}),
    "config needs the variable MB_SIGNING_SECRET": {"config": CONFIG},
    "are 40: requests in flight would be cut off": values(terminationGracePeriodSeconds=20),
    "shutdown.grace is ${GRACE:-30s}, which this chart cannot read": values(CONFIG.replace("grace: 30s", 'grace: "${GRACE:-30s}"')),
    "prometheusRule.files is empty": values(prometheusRule={"enabled": True}),
    "prometheusRule.files.a has no `groups:`": values(prometheusRule={"enabled": True, "files": {"a": "b: c"}}),
}
FOUND = []


def wrong(case, what):
    FOUND.append(f"chart, {case}: {what}")


def render(given):
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(given, name="gateway", namespace="mail").values()
    # NOTES.txt is no manifest.
    parts = [part for text in texts for part in re.split(r"(?m)^---$", text) if re.search(r"(?m)^kind:", part)]
    return {f"{document['kind']}/{document['metadata']['name']}": document for document in map(yaml.safe_load, parts)}


def validate(case, manifests):
    for name, manifest in manifests.items():
        if manifest["apiVersion"] == "monitoring.coreos.com/v1":
            try:
                known = getattr(operator, manifest["kind"]).model_validate(manifest)
            except ValueError as error:
                wrong(case, f"{name}: {error}")
            else:
                # The models pass over keys they do not know: what comes back without one had one.
                if known.model_dump(mode="json", by_alias=True, exclude_none=True) != manifest:
                    wrong(case, f"{name}: a key that the Prometheus operator does not know")
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                wrong(case, f"{name}, Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}")


def hold(manifests):
    """What no values may take away, and what the defaults promise."""
    deployment = manifests["Deployment/gateway-mailtrixy-gateway"]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    service = manifests["Service/gateway-mailtrixy-gateway"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]]
    return {
        "not root": pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 65532,
        "seccomp": pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"},
        "a root that is not written to": container["securityContext"]["readOnlyRootFilesystem"],
        "no capabilities": container["securityContext"]["capabilities"] == {"drop": ["ALL"]},
        "no gain of privileges": container["securityContext"]["allowPrivilegeEscalation"] is False,
        "no token": pod["automountServiceAccountToken"] is False,
        "no subPath": not any("subPath" in mount for mount in container["volumeMounts"]),
        "probes on the admin port": all(
            container[probe]["httpGet"]["port"] == "admin" for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        ),
        "an admin address that probes reach": {"name": "ADMIN_ADDRESS", "value": f"0.0.0.0:{ports['admin']}"} in container["env"],
        "no way to the admin port for clients": all(
            port["targetPort"] in ports and port["targetPort"] != "admin" for port in service["spec"]["ports"]
        ),
        "selectors that find the pods": all(selector.items() <= labels.items() for selector in selectors),
        "resources": set(container["resources"]) == {"requests", "limits"},
    }


def main():
    with helm.Chart.load(CHART) as chart:
        version = chart.metadata["appVersion"]
    cargo = re.search(r'(?m)^version = "(.*)"', (ROOT / "Cargo.toml").read_text()).group(1)
    if version != cargo:
        wrong("Chart.yaml", f"appVersion is {version}, and Cargo.toml says {cargo}")
    kinds = set()
    for case, given in GOOD.items():
        report = helm.lint(CHART, given, strict=True)
        for message in report["messages"]:
            # Information, that there is no icon, is none of our business.
            if message["severity"] > 1:
                wrong(case, message["error"])
        try:
            manifests = render(given)
        except helm.HelmError as error:
            wrong(case, error)
            continue
        kinds.update(manifest["kind"] for manifest in manifests.values())
        before = len(FOUND)
        validate(case, manifests)
        if len(FOUND) > before:
            continue
        for promise, kept in hold(manifests).items():
            if not kept:
                wrong(case, f"not promised any more: {promise}")
        if manifests["ConfigMap/gateway-mailtrixy-gateway"]["data"] != {"gateway.yaml": given["config"]}:
            wrong(case, "the ConfigMap does not hold gateway.yaml as it is")
    for grace, seconds in GRACE.items():
        try:
            manifests = render(values(CONFIG.replace("grace: 30s", f'grace: "{grace}"')))
        except helm.HelmError as error:
            wrong(f"shutdown.grace {grace}", error)
            continue
        found = manifests["Deployment/gateway-mailtrixy-gateway"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        if found != seconds:
            wrong(f"shutdown.grace {grace}", f"terminationGracePeriodSeconds is {found}, not {seconds}")
    for message, given in BAD.items():
        try:
            render(given)
            wrong(message, "was not refused")
        except helm.HelmError as error:
            if message not in str(error):
                wrong(message, f"was refused with {error}")
    print(f"chart: {len(GOOD)} good and {len(BAD)} bad values, Kubernetes {' and '.join(VERSIONS)}: {' '.join(sorted(kinds))}")
    print("\n".join(FOUND), file=sys.stderr, end="\n" if FOUND else "")
    return 1 if FOUND else 0


if __name__ == "__main__":
    sys.exit(main())
