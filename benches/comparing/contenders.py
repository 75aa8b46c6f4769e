"""Who is compared: how each is configured and started, and what must be true of it before it is measured."""

import http.client
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from comparing import tokens
from comparing.processes import Process, free_port

PATH = "/v1/bench"
BODY = "x" * 200

NGINX = """
worker_processes 1;
pid {directory}/{name}.pid;
error_log {directory}/{name}.error.log warn;
worker_rlimit_nofile 16384;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/{name}-body;
    proxy_temp_path {directory}/{name}-proxy;
    fastcgi_temp_path {directory}/{name}-fastcgi;
    uwsgi_temp_path {directory}/{name}-uwsgi;
    scgi_temp_path {directory}/{name}-scgi;
    keepalive_requests 1000000000;
    {extra}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ {location} }}
    }}
}}
"""
POOL = "upstream backend {{ server 127.0.0.1:{backend}; keepalive 512; keepalive_requests 1000000000; keepalive_time 24h; }}"
FORWARD = 'proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";'

HAPROXY = """
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
listen all
    bind 127.0.0.1:{port} backlog 4096
    server backend 127.0.0.1:{backend}
"""

GATEWAY = """
version: 1
threads: 1
listeners: [{{address: "127.0.0.1:{port}"}}]
admin: {{address: "127.0.0.1:{admin}"}}
base_path: /v1
redis: {{url: "{redis}"}}
auth:
  sources: [{{signed: {{issuer: bench, audience: bench, keys: [{{id: k1, algorithm: HS256, secret: "${{SECRET}}"}}]}}}}]
scopes: [read]
limits: {{bench: {{requests: 1000000000, per: 1m}}}}
upstreams: {{backend: {{servers: ["127.0.0.1:{backend}"]}}}}
routes: {{bench: {{path: /bench, scope: read, limit: bench, upstream: backend}}}}
observability: {{log: {{level: warn}}}}
"""


@dataclass
class Surroundings:
    """What a contender finds: where its files go, its CPU, the backend, and Redis where there is one."""
    root: Path
    directory: Path
    cpus: list
    gateway: Path
    backend: int = 0
    redis: Optional[int] = None


@dataclass
class Contender:
    """One of those that are compared. `program` finds what it runs, `start` runs that on a port."""
    name: str
    label: str
    does: str
    program: Callable
    start: Callable
    decides: bool = False


def nginx(around, name, port, extra, location, cpus):
    """An nginx with one worker: the backend is one, and a proxy."""
    file = around.directory / f"{name}.conf"
    file.write_text(NGINX.format(name=name, directory=around.directory, port=port, extra=extra, location=location))
    return Process([found("nginx"), "-c", file, "-e", around.directory / f"{name}.error.log", "-g", "daemon off;"],
                   around.directory, cpus)


def start_backend(around, port, cpus):
    """What everybody forwards to; it has to be faster than all of them."""
    return nginx(around, "backend", port, "default_type application/json;", f'return 200 "{BODY}";', cpus)


def start_nginx(around, port):
    return nginx(around, "proxy", port, POOL.format(backend=around.backend), FORWARD, around.cpus)


def start_haproxy(around, port):
    file = around.directory / "haproxy.cfg"
    file.write_text(HAPROXY.format(port=port, backend=around.backend))
    return Process([found("haproxy"), "-db", "-f", file], around.directory, around.cpus)


def start_floor(around, port):
    argv = [floor(around), f"127.0.0.1:{port}", f"127.0.0.1:{around.backend}", around.directory]
    return Process(argv, around.directory, around.cpus)


def start_gateway(redis):
    def start(around, port):
        file = around.directory / "gateway.yaml"
        url = f"redis://127.0.0.1:{around.redis}" if redis else ""
        file.write_text(GATEWAY.format(port=port, admin=free_port(), backend=around.backend, redis=url))
        environment = {"SECRET": tokens.SECRET}
        return Process([around.gateway, "run", "-c", file], around.directory, around.cpus, environment)
    return start


def found(program):
    """Where a program is: servers are not on everybody's PATH."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/sbin")


def floor(around):
    """Bare pingora, built where it is not yet."""
    if not shutil.which("cargo"):
        return None
    target = around.root / "target/floor"
    built = subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", target,
                            "--manifest-path", around.root / "benches/floor/Cargo.toml"], check=False)
    return target / "release/floor" if built.returncode == 0 else None


def gateway(around):
    return around.gateway.exists() and around.gateway


FORWARDS = "forwards"
ALL = [
    Contender("nginx", "nginx", FORWARDS, lambda around: found("nginx"), start_nginx),
    Contender("haproxy", "HAProxy", FORWARDS, lambda around: found("haproxy"), start_haproxy),
    Contender("pingora", "pingora, bare", FORWARDS, floor, start_floor),
    Contender("memory", "mailtrixy-gateway", "token, scope, limit in memory", gateway, start_gateway(redis=False), decides=True),
    Contender("redis", "mailtrixy-gateway", "token, scope, limit in Redis",
              lambda around: around.redis and gateway(around), start_gateway(redis=True), decides=True),
]
NAMES = [contender.name for contender in ALL]


def ask(port, token):
    """The status, the fields and the body of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", PATH, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, body


def prove(contender, port, token):
    """Who does not do what is said of it is not measured."""
    status, fields, body = ask(port, token)
    if (status, body) != (200, BODY):
        raise RuntimeError(f"a good token was answered with {status}: {body[:200]}")
    if not contender.decides:
        return
    left = int(fields["X-RateLimit-Remaining"])
    if int(ask(port, token)[1]["X-RateLimit-Remaining"]) != left - 1:
        raise RuntimeError("it does not count")
    if [ask(port, bad)[0] for bad in (None, token[:-8] + "AAAAAAAA", tokens.sign(0, scope="write"))] != [401, 401, 403]:
        raise RuntimeError("it lets in whom it should not")
