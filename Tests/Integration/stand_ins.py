"""Servers that the tests of images stand up: registries that demand something, a proxy that gets in the way of a
pull, and the services that make tokens and deltas."""

import base64
import collections
import hashlib
import http.client
import http.server
import json
import os
import select
import socket
import subprocess
import threading
import time
import urllib.parse

import disclosure
from harness import free_port, required, run, wait_until

Request = collections.namedtuple("Request", "method path query headers")


class Server:
    """An HTTP server on a loopback port that answers with `answer`, and keeps what it was asked in `requests`."""

    def __init__(self, port=0):
        self.requests = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                parts = urllib.parse.urlsplit(self.path)
                request = Request(self.command, parts.path, urllib.parse.parse_qs(parts.query), self.headers)
                owner.requests.append(request)
                answer = owner.answer(request, body, self.connection)
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, body = answer
                if isinstance(body, (dict, list)):
                    headers, body = {"Content-Type": "application/json", **headers}, json.dumps(body).encode()
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    pieces = body
                    if isinstance(body, bytes):
                        pieces = [body]
                        if self.command != "HEAD":
                            self.send_header("Content-Length", str(len(body)))
                    else:
                        self.close_connection = True
                    self.end_headers()
                    for piece in pieces if self.command != "HEAD" else ():
                        self.wfile.write(piece)
                except OSError:
                    self.close_connection = True

            do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, body, connection):
        raise NotImplementedError

    def asked(self, prefix, method="GET"):
        """Requests whose path begins so."""
        return [r for r in list(self.requests) if r.method == method and r.path.startswith(prefix)]


class Registry:
    """A registry of its own that demands something, on what is stored in the shared one."""

    def __init__(self, directory, authentication):
        os.makedirs(directory, exist_ok=True)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        storage = os.path.join(required("SUPERVISOR_TEST_DIRECTORY"), "registry", "storage")
        configuration = os.path.join(directory, "config.yml")
        with open(configuration, "w", encoding="utf-8") as file:
            json.dump({
                "version": "0.1", "log": {"level": "warn", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": storage}}, "auth": authentication,
                "http": {"addr": self.address}}, file)
        with open(os.path.join(directory, "registry.log"), "ab") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", configuration], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self.answers, "the registry answers")

    def answers(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in (200, 401)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self):
        self.process.kill()
        self.process.wait()


class Accounts:
    """A file of names and passwords that a registry reads again when it changes."""

    def __init__(self, directory):
        os.makedirs(directory, exist_ok=True)
        self.path = os.path.join(directory, "accounts")
        self.put("someone", "else")

    def put(self, user, password):
        disclosure.secret("password of the registry", password)
        text = run(["htpasswd", "-Bbn", user, password])
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)

    @property
    def authentication(self):
        return {"htpasswd": {"realm": "test", "path": self.path}}


class TokenServer(Server):
    """Makes the tokens that a registry demands (distribution's token specification), for one account."""

    SERVICE = "test-registry"
    ISSUER = "test-issuer"

    def __init__(self, directory, user, password):
        os.makedirs(directory, exist_ok=True)
        self.key, self.certificate = (os.path.join(directory, name) for name in ("key.pem", "certificate.pem"))
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=test",
             "-keyout", self.key, "-out", self.certificate])
        with open(self.certificate, encoding="utf-8") as file:
            self.chain = ["".join(line.strip() for line in file if not line.startswith("-"))]
        self.accepted = basic(user, password)
        self.is_refusing = False
        super().__init__()

    @property
    def authentication(self):
        return {"token": {"realm": f"http://{self.address}/token", "service": self.SERVICE, "issuer": self.ISSUER,
                          "rootcertbundle": self.certificate}}

    def answer(self, request, body, connection):
        if self.is_refusing or request.headers.get("Authorization") != self.accepted:
            return 401, {}, {"errors": [{"code": "UNAUTHORIZED", "message": "not you"}]}
        return 200, {}, {"token": self.token(request.query.get("scope", []))}

    def token(self, scopes):
        now = int(time.time())
        access = [{"type": kind, "name": name, "actions": actions.split(",")}
                  for kind, name, actions in (scope.split(":") for scope in scopes)]
        claims = {"iss": self.ISSUER, "sub": "device", "aud": self.SERVICE, "exp": now + 3600, "nbf": now - 60,
                  "iat": now - 60, "jti": hashlib.sha256(os.urandom(16)).hexdigest(), "access": access}
        header = {"typ": "JWT", "alg": "RS256", "x5c": self.chain}
        signed = b".".join(url_base64(json.dumps(part).encode()) for part in (header, claims))
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key], input=signed, check=True, capture_output=True).stdout
        token = (signed + b"." + url_base64(signature)).decode()
        disclosure.secret("token of the registry", token)
        return token


class DeltaServer(Server):
    """The cloud's services of tokens and deltas, in one; everything else of the cloud is out of order."""

    def __init__(self, user, password, issuer=None):
        self.accepted = basic(user, password)
        self.issuer = issuer
        self.answers = []
        super().__init__()

    def answer(self, request, body, connection):
        if request.path == "/auth/v1/token":
            if request.headers.get("Authorization") != self.accepted:
                return 401, {}, b"Unauthorized"
            scopes = [*request.query["scope"], "repository:images/delta:pull"]
            token = self.issuer.token(scopes) if self.issuer else f"token-of-deltas-{len(self.requests)}"
            disclosure.secret("token of the delta service", token)
            return 200, {}, {"token": token}
        if request.path.startswith("/api/v"):
            status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            return status, {}, body
        return 503, {}, b"out of order"


class Proxy(Server):
    """Stands between the engine and a registry: holds answers back, spoils them, refuses."""

    # Bytes: the configuration of an image is smaller, its layers are larger.
    SMALL = 65536
    CODES = {403: "DENIED", 404: "MANIFEST_UNKNOWN"}

    def __init__(self, upstream, port=0):
        self.upstream = upstream
        self.held = set()
        self.spoiled = set()
        self.cut = set()
        self.refused = {}
        super().__init__(port)

    @staticmethod
    def image(path):
        """`/v2/images/a/manifests/1` is about image `a`."""
        parts = path.split("/")
        return parts[3] if len(parts) > 4 else None

    def pulled(self):
        """Images whose manifest was asked for."""
        return {self.image(r.path) for r in list(self.requests) if "/manifests/" in r.path}

    def answer(self, request, body, connection):
        image = self.image(request.path)
        if image in self.refused:
            status = self.refused[image]
            return status, {}, {"errors": [{"code": self.CODES[status], "message": "refused by the test"}]}
        headers = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
        headers["Host"] = self.upstream
        upstream = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            upstream.request(request.method, request.path, headers=headers)
            response = upstream.getresponse()
            content = response.read()
        finally:
            upstream.close()
        is_blob = "/blobs/" in request.path and response.status == 200
        if is_blob and image in self.spoiled:
            content = bytes(len(content))
        dropped = ("connection", "transfer-encoding", *(["content-length"] if request.method != "HEAD" else []))
        kept = {name: value for name, value in response.headers.items() if name.lower() not in dropped}
        if is_blob and image in self.cut:
            content = content[:len(content) // 2]
        if is_blob and image in self.held and len(content) > self.SMALL:
            kept["Content-Length"] = str(len(content))
            return response.status, kept, self.held_back(image, content, connection)
        return response.status, kept, content

    def held_back(self, image, content, connection):
        """The second half comes when the image is not held any more. The engine can give up a layer only when its
        first bytes have come, so they do."""
        half = len(content) // 2
        yield content[:half]
        while image in self.held:
            ready, _, _ = select.select([connection], [], [], 0.05)
            if ready and not connection.recv(1, socket.MSG_PEEK):
                return
        yield content[half:]

    def stop(self):
        self.held.clear()
        super().stop()


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def url_base64(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=")
