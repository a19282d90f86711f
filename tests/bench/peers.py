"""The proxies that are measured, and what they stand between: started with a configuration of their own, on one core.

A hop listens at a port and forwards to another. With certificates its inner side speaks mutual TLS 1.3. Telemetry means
a span and a log record for every request, sent as OTLP over gRPC. Every proxy has one worker thread, keeps connections
to its upstream, and never closes one for the number of requests it has had.
"""

import json
import os
import socket
import ssl
import subprocess

from group import Group, port, program

FOREVER = 1_000_000_000
BODY_BYTES = 512


def nginx_start(group, folder, address, servers, connections=1_024):
    os.makedirs(folder)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    with open(f"{folder}/nginx.conf", "w") as written:
        written.write(
            f"{'user root;' if os.geteuid() == 0 else ''} worker_processes 1; daemon off; pid {folder}/pid;"
            f"error_log stderr error; events {{ worker_connections {connections}; }}"
            f"http {{ access_log off; {temporary} keepalive_requests {FOREVER}; keepalive_timeout 1h; {servers} }}"
        )
    command = [program("nginx"), "-p", folder, "-c", f"{folder}/nginx.conf"]
    group.start(command, f"{folder}/log", address)


class Nginx:
    name, traces = "nginx", False

    def hop(self, group, folder, listen, to, tls_in=None, tls_out=None, collector=None, inbound=False):
        use = lambda kind, tls: (
            f"{kind}_certificate {tls.cert}; {kind}_certificate_key {tls.key}; {kind}_protocols TLSv1.3;"
        )
        server = f"{use('ssl', tls_in)} ssl_client_certificate {tls_in.ca}; ssl_verify_client on;" if tls_in else ""
        client = (
            f"{use('proxy_ssl', tls_out)} proxy_ssl_trusted_certificate {tls_out.ca}; proxy_ssl_verify on;"
            if tls_out
            else ""
        )
        nginx_start(
            group,
            folder,
            listen,
            f"upstream next {{ server 127.0.0.1:{to}; keepalive 64; keepalive_requests {FOREVER}; }}"
            f"server {{ listen 127.0.0.1:{listen}{' ssl' if tls_in else ''}; {server} location / {{"
            f"proxy_pass http{'s' if tls_out else ''}://next; proxy_http_version 1.1;"
            f'proxy_set_header Connection ""; {client} }} }}',
        )


class Haproxy:
    name, traces = "haproxy", False

    def hop(self, group, folder, listen, to, tls_in=None, tls_out=None, collector=None, inbound=False):
        os.makedirs(folder)
        use = lambda tls: f"ssl crt {tls.both} ca-file {tls.ca} verify required ssl-min-ver TLSv1.3" if tls else ""
        with open(f"{folder}/haproxy.cfg", "w") as written:
            written.write(
                "global\n nbthread 1\n maxconn 4096\n"
                "defaults\n mode http\n http-reuse always\n"
                " timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
                f"frontend in\n bind 127.0.0.1:{listen} {use(tls_in)}\n default_backend next\n"
                f"backend next\n server next 127.0.0.1:{to} {use(tls_out)}\n"
            )
        group.start([program("haproxy"), "-db", "-f", f"{folder}/haproxy.cfg"], f"{folder}/log", listen)


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def envoy_cluster(name, to, **more):
    address = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": to}}}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": address}]}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": assignment, **more}


def envoy_tls(tls, side, **more):
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": {"filename": tls.cert}, "private_key": {"filename": tls.key}}],
        "validation_context": {"trusted_ca": {"filename": tls.ca}},
    }
    context = typed(f"extensions.transport_sockets.tls.v3.{side}TlsContext", common_tls_context=common, **more)
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


class Envoy:
    name, traces = "envoy", True

    def telemetry(self):
        """A span and a log record for every request, with attributes like those of Weir's records.

        Spans go out by fives, which is its default: 512 at once cost as much and hold up requests for milliseconds.
        """
        to = {"envoy_grpc": {"cluster_name": "collector"}}
        attributes = {
            "http.request.method": "%REQ(:METHOD)%",
            "url.path": "%REQ(:PATH)%",
            "server.address": "%REQ(:AUTHORITY)%",
            "http.response.status_code": "%RESPONSE_CODE%",
            "response_flags": "%RESPONSE_FLAGS%",
            "http.request.body.size": "%BYTES_RECEIVED%",
            "http.response.body.size": "%BYTES_SENT%",
            "duration_ms": "%DURATION%",
            "upstream": "%UPSTREAM_HOST%",
        }
        values = [{"key": key, "value": {"string_value": value}} for key, value in attributes.items()]
        log = typed(
            "extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
            common_config={"log_name": "access", "grpc_service": to, "transport_api_version": "V3"},
            attributes={"values": values},
        )
        tracer = typed("config.trace.v3.OpenTelemetryConfig", grpc_service=to, service_name="bench")
        return {
            "access_log": [{"name": "envoy.access_loggers.open_telemetry", "typed_config": log}],
            "tracing": {"provider": {"name": "envoy.tracers.opentelemetry", "typed_config": tracer}},
        }

    def hop(self, group, folder, listen, to, tls_in=None, tls_out=None, collector=None, inbound=False):
        os.makedirs(folder)
        route = {"match": {"prefix": "/"}, "route": {"cluster": "next", "timeout": "15s"}}
        manager = typed(
            "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="in",
            route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            http_filters=[
                {"name": "router", "typed_config": typed("extensions.filters.http.router.v3.Router")}
            ],
            **(self.telemetry() if collector else {}),
        )
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        if tls_in:
            chain |= envoy_tls(tls_in, "Downstream", require_client_certificate=True)
        next_hop = envoy_cluster("next", to, **(envoy_tls(tls_out, "Upstream") if tls_out else {}))
        clusters = [next_hop]
        if collector:
            options = typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={"http2_protocol_options": {}},
            )
            kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
            clusters.append(
                envoy_cluster("collector", collector, typed_extension_protocol_options={kind: options})
            )
        socket_address = {"socket_address": {"address": "127.0.0.1", "port_value": listen}}
        configuration = {
            "static_resources": {
                "listeners": [{"name": "in", "address": socket_address, "filter_chains": [chain]}],
                "clusters": clusters,
            }
        }
        with open(f"{folder}/envoy.json", "w") as written:
            json.dump(configuration, written)
        command = [program("envoy"), "--disable-hot-restart", "--concurrency", "1", "-l", "error"]
        group.start([*command, "-c", f"{folder}/envoy.json"], f"{folder}/log", listen)


class Weir:
    name, traces = "weir", True

    def has_tls(self):
        """Whether this build has mutual TLS with certificates from files."""
        said = subprocess.run([program("weir-proxy"), "--help"], stdout=subprocess.PIPE, text=True, check=True)
        return "--tls-cert" in said.stdout

    def hop(self, group, folder, listen, to, tls_in=None, tls_out=None, collector=None, inbound=False):
        os.makedirs(folder)
        command = [program("weir-proxy"), "--collector", f"127.0.0.1:{collector}" if collector else "none"]
        if inbound:
            command += ["--service", "next", "--inbound", f"127.0.0.1:{listen}", "--app", f"127.0.0.1:{to}"]
        else:
            with open(f"{folder}/endpoints.json", "w") as written:
                json.dump({"next": [{"address": f"127.0.0.1:{to}"}]}, written)
            command += ["--service", "first", "--outbound", f"next=127.0.0.1:{listen}"]
            command += ["--endpoints", f"{folder}/endpoints.json"]
        if tls := tls_in or tls_out:
            command += ["--tls-cert", tls.cert, "--tls-key", tls.key, "--tls-ca", tls.ca]
        group.start(command, f"{folder}/log", listen)


class Backend:
    """What is behind all proxies: a body of 512 bytes from memory, and a collector that takes OTLP and forgets it."""

    def __init__(self, folder, core):
        self.group, self.port, self.collector, self.exports = Group(core), port(), port(), f"{folder}/exports"
        # gRPC's empty message. nginx reads a request as a whole before it asks its upstream, which is itself.
        os.makedirs(f"{folder}-files")
        with open(f"{folder}-files/ack", "wb") as written:
            written.write(bytes(5))
        ack = port()
        nginx_start(
            self.group,
            folder,
            self.port,
            f'server {{ listen 127.0.0.1:{self.port}; location / {{ return 200 "{"x" * BODY_BYTES}"; }} }}'
            f"server {{ listen 127.0.0.1:{ack}; root {folder}-files; }}"
            f'log_format bytes "$request_length $status"; server {{ listen 127.0.0.1:{self.collector} http2;'
            f"client_max_body_size 64m; client_body_buffer_size 8m;"
            f"location /opentelemetry. {{ access_log {self.exports} bytes;"
            f"proxy_method GET; proxy_pass_request_body off;"
            f'proxy_set_header Content-Length ""; proxy_set_header Content-Type "";'
            f"proxy_hide_header Content-Type; add_header Content-Type application/grpc; add_trailer grpc-status 0;"
            f"rewrite ^ /ack break; proxy_pass http://127.0.0.1:{ack}; }}"
            f"location / {{ add_header Content-Type application/grpc; add_trailer grpc-status 12; return 200; }} }}",
        )

    def exported(self):
        """Bytes of telemetry that were acknowledged until now."""
        lines = [line.split() for line in open(self.exports)] if os.path.exists(self.exports) else []
        if bad := [line for line in lines if line[1] not in ("200", "499")]:  # 499: given up by a proxy that ends
            raise SystemExit(f"the collector answered {bad[0]}")
        return sum(int(line[0]) for line in lines if line[1] == "200")


ALL = [Nginx(), Haproxy(), Envoy(), Weir()]


def one(peer, folder, core, backend, telemetry=False):
    """A proxy in front of the backend."""
    group = Group(core)
    group.entrance = port()
    collector = backend.collector if telemetry else None
    peer.hop(group, folder, group.entrance, backend.port, collector=collector)
    return group


def must_refuse_strangers(at, tls):
    """Ends the measurement if a client without a certificate is served there."""
    context = ssl.create_default_context(cafile=tls.ca)
    answer = b""
    try:
        with context.wrap_socket(socket.create_connection(("127.0.0.1", at)), server_hostname="localhost") as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: next\r\nConnection: close\r\n\r\n")
            answer = stranger.recv(1_024)
    except (ssl.SSLError, ConnectionError):
        pass  # as it should be
    if answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"port {at} serves clients without a certificate")


def pair(peer, folder, core, backend, tls=None, telemetry=False):
    """Two proxies in front of the backend, with `tls` between them."""
    group = Group(core)
    group.entrance, between = port(), port()
    collector = backend.collector if telemetry else None
    peer.hop(group, f"{folder}-in", between, backend.port, tls_in=tls, collector=collector, inbound=True)
    peer.hop(group, f"{folder}-out", group.entrance, between, tls_out=tls, collector=collector)
    if tls:
        must_refuse_strangers(between, tls)
    return group
