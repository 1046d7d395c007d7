"""The HTTP side of the stand-in: endpoints, faults, and a record of everything that was asked."""

import base64
import email.utils
import gzip
import http.client
import http.server
import json
import os
import re
import socket
import ssl
import threading
import time
import urllib.parse

from certificates import Authority, TokenSigner
from faults import Faults
from faulty import Cut, FaultyAnswers
from log_sink import LogSink
from model import Cloud, Refused, compact, etag

BODY_LIMIT = 512 * 1024
COMPRESSION_THRESHOLD = 1024
FORWARD_TIMEOUT = 50
FORWARD_SPACING = 0.05
TEXT_ANSWER = re.compile(r"[A-Za-z0-9\s:'.?!,/-]*")

ROUTES = (
    ("GET", r"/device/v3/([0-9a-f]+)/state", "state-get"),
    ("PATCH", r"/device/v3/state", "state-patch"),
    ("PATCH", r"/device/v3/tags", "tags"),
    ("POST", r"/device/v2/([0-9a-f]+)/log-stream", "log-stream"),
    ("GET", r"/device/v2/([0-9a-f]+)/logs", "logs-read"),
    ("POST", r"/device/v2/([0-9a-f]+)/logs", "logs-write"),
    ("POST", r"/device/register", "register"),
    ("POST", r"/api-key/device/([^/]*)/device-key", "device-key"),
    ("GET", r"/v\d/([a-z_]+)(?:\(([^)]*)\))?", "odata"),
    ("PATCH", r"/v\d/(device)\((\d+)\)", "odata"),
    ("POST", r"/v\d/(device_config_variable)", "odata"),
    ("GET", r"/auth/v1/token", "token"),
    ("GET", r"/api/v([23])/delta", "delta"),
    ("POST", r"/supervisor/(.*)", "supervisor"),
    ("GET", r"/ping", "ping"),
    ("GET", r"/connectivity-check", "connectivity"),
    ("GET", r"/os/v1/config/?", "os-config"),
)


class StandIn:
    """A cloud on two ports of the loopback: https, and http that redirects (or serves, when told to)."""

    def __init__(self, directory, host="127.0.0.1", port=0, plain_port=0, plain=False, seed=1, **rules):
        self.cloud = Cloud(**rules)
        self.cloud.on_update = self._update_later
        self.faults = Faults(seed)
        self.requests = []
        self.plain = plain
        self.host = host
        self.authority = Authority(os.path.join(directory, "tls"))
        self.signer = TokenSigner(os.path.join(directory, "token"))
        self.token_service = "registry"
        self.token_issuer = "stand-in"
        self.device_address = None
        self.delta_answers = []
        self.connections = 0
        self.in_flight = {}
        self.overlaps = []
        self.token_requests = []
        self.tokens = []
        self.os_config = {"services": {"openvpn": {"config": "", "ca": ""}, "ssh": {"authorized_keys": ""}},
                          "config": {"overrides": {}}, "schema_version": "1.0.0"}
        self.certificate = None
        # Before each connection is looked at, and how many there may be at once.
        self.accept_delay = 0
        self.socket_limit = None
        self.ports = (port, plain_port)
        self.started = time.monotonic()
        self._stop = threading.Event()
        self.start()

    # --- life

    def start(self):
        self._stop.clear()
        self.use_certificate(*(self.certificate or self.authority.leaf()))
        self.servers = [
            _Server((self.host, self.ports[0]), self, tls=True), _Server((self.host, self.ports[1]), self, tls=False),
        ]
        self.ports = tuple(server.server_address[1] for server in self.servers)
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        """Refuses connections from now on and cuts those that there are; `start` brings it back."""
        self._stop.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()
            server.cut()

    def close_idle(self):
        """Ends the connections that wait for their next request, as a load balancer does; how many."""
        return sum(server.cut(idle=True) for server in self.servers)

    def use_certificate(self, chain, key, has_tickets=True):
        """For connections from now on; sessions of before are not resumed, and without tickets none is."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        if not has_tickets:
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
        self.certificate = (chain, key)
        self.context = context

    @property
    def url(self):
        return f"https://{self.host}:{self.ports[0]}"

    @property
    def plain_url(self):
        return f"http://{self.host}:{self.ports[1]}"

    @property
    def root_base64(self):
        return base64.b64encode(self.authority.pem.encode()).decode()

    # --- the record

    def record(self, endpoint, **fields):
        row = {"at": time.monotonic(), "endpoint": endpoint, **fields}
        self.requests.append(row)
        return row

    def seen(self, endpoint, **fields):
        return [r for r in list(self.requests)
                if r["endpoint"] == endpoint and all(r.get(k) == v for k, v in fields.items())]

    # --- towards the device

    def _update_later(self, device):
        if self.device_address and device.state.get("api_secret"):
            threading.Thread(
                target=lambda: self.forward(device, "POST", "/v1/update", None), daemon=True).start()

    def forward(self, device, method, path, data):
        """What the cloud does with a request for a device: status, content type and body for the client."""
        if not self.device_address:
            return 404, "text/plain", b"No online device(s) found"
        host, port = self.device_address
        connection = http.client.HTTPConnection(host, port, timeout=FORWARD_TIMEOUT)
        secret = urllib.parse.quote(device.state.get("api_secret") or "")
        body, headers = None, {"Host": f"{device.uuid}.balena:{device.state.get('api_port', 48484)}"}
        if data is not None:
            body, headers["Content-Type"] = json.dumps(data).encode(), "application/json"
        try:
            connection.request(method, f"{path}?apikey={secret}", body, headers)
            answer = connection.getresponse()
            content, text = answer.headers.get("Content-Type", ""), answer.read()
        except OSError as error:
            return 502, "text/plain", str(error).encode()
        finally:
            connection.close()
        refusal = (500, "application/json", compact({"error": "Bad API response from supervisor"}))
        if content.startswith("application/json"):
            try:
                return answer.status, "application/json", compact(json.loads(text))
            except ValueError:
                return refusal
        if content.startswith(("text/plain", "text/html")):
            return (answer.status, "text/plain", text) if TEXT_ANSWER.fullmatch(text.decode("latin-1")) else refusal
        return refusal if content else (answer.status, "", b"")


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, address, stand_in, tls):
        self.stand_in = stand_in
        self.tls = tls
        self.open = set()
        self.busy = set()
        self.served = set()
        super().__init__(address, _Handler)

    def finish_request(self, request, client_address):
        # The handshake is done in the connection's own thread.
        time.sleep(self.stand_in.accept_delay)
        if self.stand_in.socket_limit is not None and len(self.open) >= self.stand_in.socket_limit:
            self.stand_in.record("refused-connection")
            return request.close()
        if self.tls:
            try:
                request.settimeout(20)
                request = self.stand_in.context.wrap_socket(request, server_side=True)
                request.settimeout(None)
            except (ssl.SSLError, OSError) as error:
                self.stand_in.record("handshake", error=str(error))
                return
        self.stand_in.connections += 1
        self.stand_in.record("connection", tls=self.tls, resumed=getattr(request, "session_reused", None))
        self.open.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self.open.discard(request)
            self.served.discard(request)
            try:
                request.close()
            except OSError:
                pass

    def cut(self, idle=False):
        # One that is new has a request on its way.
        connections = (self.open & self.served) - self.busy if idle else set(self.open)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        return len(connections)

    def handle_error(self, request, client_address):
        pass


class _Handler(LogSink, FaultyAnswers, http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "stand-in"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_request()

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    # --- one request

    def handle_request(self):
        stand_in = self.server.stand_in
        path, _, query = self.path.partition("?")
        endpoint, groups = "unknown", ()
        for method, pattern, name in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == self.command:
                endpoint, groups = name, match.groups()
                break
        self.key = self._key()
        self.row = stand_in.record(
            endpoint, method=self.command, path=self.path, status=None,
            headers={k.lower(): v for k, v in self.headers.items() if k.lower() != "authorization"},
            key_in_url=bool(self.key and self.key in self.path), scheme="https" if self.server.tls else "http")
        fault = stand_in.faults.take(endpoint)
        self.row["faulty"] = fault is not None
        self.server.busy.add(self.connection)
        guard = endpoint in ("state-get", "state-patch", "tags", "log-stream")
        flight = (endpoint, groups[:1] or None)
        if guard:
            stand_in.in_flight[flight] = stand_in.in_flight.get(flight, 0) + 1
            if stand_in.in_flight[flight] > 1:
                stand_in.overlaps.append(endpoint)
        try:
            if not self.server.tls and not stand_in.plain and endpoint not in ("token", "ping"):
                self._drain()
                return self.answer(301, headers={"Location": f"{stand_in.url}{self.path}"})
            if endpoint == "log-stream":
                return self.log_stream(groups[0], fault)
            if endpoint == "logs-read" and not fault:
                return self._people(lambda: self.read_logs(groups[0], query))
            body = self._drain()
            self.row["body"] = body
            self._serve(endpoint, groups, query, body, fault)
        except (Cut, OSError, ssl.SSLError):
            self.close_connection = True
        finally:
            self.row["done"] = time.monotonic()
            self.server.served.add(self.connection)
            self.server.busy.discard(self.connection)
            if guard:
                stand_in.in_flight[flight] -= 1

    def _people(self, serve):
        try:
            return serve()
        except Refused as refusal:
            return self.answer(refusal.status, {}, refusal.body.encode())

    def _serve(self, endpoint, groups, query, body, fault):
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.connection in ("close", "reset", "hang"):
            self._break(fault.connection)
        if fault and fault.status and not fault.committed:
            return self._fault_status(fault, body)
        try:
            if len(body) > BODY_LIMIT:
                raise Refused(413)
            status, headers, content = self._dispatch(endpoint, groups, query, self._json(body))
        except Refused as refusal:
            status, headers, content = refusal.status, {}, refusal.body
            if not isinstance(content, str):
                headers, content = {"Content-Type": "application/json"}, compact(content)
            content = content.encode() if isinstance(content, str) else content
        if fault and fault.late:
            time.sleep(fault.late)
        if fault and fault.connection == "lost-acknowledgement":
            self.row["status"] = "lost"
            self._break("close")
        if fault and fault.status:
            return self._fault_status(fault, body)
        if fault and fault.is_of_answer:
            return self._faulty_body(status, headers, content, fault)
        self.answer(status, headers, content)

    def _dispatch(self, endpoint, groups, query, body):
        cloud = self.server.stand_in.cloud
        json_type = {"Content-Type": "application/json; charset=utf-8"}
        if endpoint == "state-get":
            return self._state(groups[0])
        if endpoint == "state-patch":
            cloud.report(self.key, body, self.client_address[0])
            self.row["report"] = body
            return 200, {}, b""
        if endpoint == "tags":
            cloud.set_tags(self.key, body)
            return 200, {}, b""
        if endpoint == "register":
            return 201, json_type, compact(cloud.register(self.key, body))
        if endpoint == "device-key":
            if not groups[0].isdigit():
                raise Refused(400, "Device id must be a number")
            return 200, json_type, compact(cloud.add_device_key(self.key, int(groups[0]), body))
        if endpoint == "odata":
            return self._odata(groups, query, body)
        if endpoint == "token":
            return self._token(query)
        if endpoint == "logs-write":
            return self.write_logs(groups[0], body)
        if endpoint == "os-config":
            return 200, json_type, compact(self.server.stand_in.os_config)
        if endpoint == "supervisor":
            return self._forward(groups[0], body)
        if endpoint == "delta":
            answers = self.server.stand_in.delta_answers
            return answers.pop(0) if answers else (504, {}, b"")
        if endpoint == "ping":
            return 200, {"Content-Type": "text/plain"}, b"OK"
        if endpoint == "connectivity":
            return 204, {}, b""
        return 404, {}, b"Not Found"

    # --- endpoints

    def _state(self, uuid):
        cloud = self.server.stand_in.cloud
        with cloud.lock:
            device = cloud.devices.get(uuid)
            if device is not None and (device.deleted or device.frozen):
                return 304, {}, b""
            device = cloud.reader(self.key, uuid)
            cloud.heartbeat(device)
            content = compact(cloud.target(device))
        tag = etag(content)
        if self.headers.get("If-None-Match") == tag:
            return 304, {"ETag": tag}, b""
        return 200, {"Content-Type": "application/json; charset=utf-8", "ETag": tag}, content

    def _odata(self, groups, query, body):
        cloud = self.server.stand_in.cloud
        json_type = {"Content-Type": "application/json"}
        if not self.key:
            raise Refused(401)
        if self.command == "PATCH":
            cloud.patch_device(self.key, int(groups[1]), body or {})
            return 200, {}, b""
        if self.command == "POST":
            return 201, json_type, compact(cloud.add_variable(self.key, body or {}))
        rows = cloud.rows(self.key, groups[0])
        options = dict(part.split("=", 1) for part in query.split("&") if "=" in part)
        conditions = []
        if groups[1]:
            place = urllib.parse.unquote(groups[1])
            conditions = [("id", place)] if place.isdigit() else [tuple(place.split("=", 1))]
        for term in re.split(r"\s+and\s+", urllib.parse.unquote(options.get("$filter", ""))):
            term = term.strip("() ")
            if term:
                name, _, value = term.partition(" eq ")
                conditions.append((name, value))
        for name, value in conditions:
            value = value[1:-1].replace("''", "'") if value.startswith("'") else value
            rows = [row for row in rows if str(row.get(name)) == value]
        fields = [f for f in urllib.parse.unquote(options.get("$select", "")).split(",") if f]
        if fields:
            rows = [{name: row[name] for name in fields if name in row} for row in rows]
        return 200, json_type, compact({"d": rows})

    def _token(self, query):
        stand_in = self.server.stand_in
        parameters = urllib.parse.parse_qs(query)
        authorization = self.headers.get("Authorization", "")
        name, key = "", ""
        if authorization.startswith("Basic "):
            name, _, key = base64.b64decode(authorization[6:]).decode().partition(":")
        device = stand_in.cloud.device_of_key(key)
        stand_in.token_requests.append({"user": name, "granted": device is not None, **parameters})
        if device is None or name != f"d_{device.uuid}":
            raise Refused(401)
        access = []
        for scope in parameters.get("scope", []):
            kind, _, rest = scope.partition(":")
            repository, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": repository, "actions": [a for a in actions.split(",") if a == "pull"]})
        now = int(time.time())
        token = stand_in.signer.sign({
            "iss": stand_in.token_issuer, "sub": name, "aud": parameters.get("service", [""])[0], "exp": now + 14400,
            "nbf": now - 10, "iat": now, "jti": os.urandom(8).hex(), "access": access})
        stand_in.tokens.append(token)
        return 200, {"Content-Type": "application/json"}, compact({"token": token})

    def _forward(self, path, body):
        cloud = self.server.stand_in.cloud
        body = body or {}
        devices = [
            d for d in cloud.devices.values()
            if (body.get("uuid") in (None, d.uuid) and body.get("deviceId") in (None, d.id)
                and body.get("appId") in (None, d.fleet.id)) and not d.frozen
        ]
        if not any(name in body for name in ("appId", "deviceId", "uuid")):
            raise Refused(400)
        method = str(body.get("method", "POST")).upper()
        if method not in ("PUT", "PATCH", "POST", "HEAD", "DELETE", "GET"):
            raise Refused(400)
        if not all(cloud.readable(self.key, device) for device in devices):
            raise Refused(403)
        if not devices:
            raise Refused(404, "No online device(s) found")
        answers = []
        for device in devices:
            time.sleep(FORWARD_SPACING if answers else 0)
            answers.append(self.server.stand_in.forward(device, method, f"/{path}", body.get("data")))
        if len(answers) == 1:
            status, content_type, content = answers[0]
            return status, {"Content-Type": content_type} if content_type else {}, content
        rows = [{"statusCode": a[0], "body": a[2].decode()} for a in answers]
        return 207, {"Content-Type": "application/json"}, compact(rows)

    # --- reading and answering

    def _key(self):
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        return key if scheme == "Bearer" else ""

    def _drain(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while part := self._chunk():
                parts.append(part)
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, body):
        if not body:
            return None
        try:
            return json.loads(body)
        except ValueError:
            raise Refused(400) from None

    def answer(self, status, headers=None, content=b"", length=None):
        headers = dict(headers or {})
        if len(content) > COMPRESSION_THRESHOLD and "gzip" in self.headers.get("Accept-Encoding", "") \
                and "Content-Encoding" not in headers:
            content = gzip.compress(content, 6)
            headers["Content-Encoding"] = "gzip"
        self.row["status"] = status
        self.row["sent"] = len(content)
        self.send_response_only(status)
        self.send_header("Date", email.utils.formatdate(usegmt=True))
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content) if length is None else length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(content)
