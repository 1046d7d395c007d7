"""Stands between an agent and the engine: answers some requests itself, holds others back."""

import http.client
import json
import re
import socket
import threading
import time


class EngineProxy:
    """A unix socket that passes everything on but what `refusals` say: (method, pattern of the path, status, message).
    A path that matches `held` waits. A connection is for one request, so that none escapes."""

    def __init__(self, upstream, path):
        self.upstream = upstream
        self.path = path
        self.refusals = []
        self.refused = []
        self.held = None
        # What the engine calls itself in `GET /version`, in place of nothing.
        self.name = None
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def address(self):
        return f"unix://{self.path}"

    def stop(self):
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def refusal(self, method, path):
        for wanted, pattern, status, message in self.refusals:
            if wanted == method and re.search(pattern, path):
                return status, message
        return None

    def serve(self, connection):
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                piece = connection.recv(65536)
                if not piece:
                    return
                data += piece
            head, _, rest = data.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            method, path, _ = lines[0].split(" ")
            while self.held and re.search(self.held, path):
                time.sleep(0.05)
            refusal = self.refusal(method, path)
            if refusal:
                self.refused.append((method, path))
                body = json.dumps({"message": refusal[1]}).encode()
                connection.sendall(
                    f"HTTP/1.1 {refusal[0]} Refused\r\nContent-Type: application/json\r\nConnection: close\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                return
            kept = [line for line in lines if not line.lower().startswith("connection:")]
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine:
                try:
                    engine.connect(self.upstream)
                    engine.sendall("\r\n".join([*kept, "Connection: close"]).encode("latin-1") + b"\r\n\r\n" + rest)
                    if self.name and path.endswith("/version"):
                        connection.sendall(self.named(engine))
                        return
                    # What is left of the body, for as long as the answer takes.
                    threading.Thread(target=self.relay, args=(connection, engine), daemon=True).start()
                    self.relay(engine, connection)
                except OSError:
                    pass
                finally:
                    # The other direction ends too.
                    for end in (connection, engine):
                        try:
                            end.shutdown(socket.SHUT_RDWR)
                        except OSError:
                            pass

    def named(self, engine):
        response = http.client.HTTPResponse(engine)
        response.begin()
        body = json.dumps({**json.loads(response.read()), "Engine": self.name}).encode()
        return (f"HTTP/1.1 {response.status} OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode() + body

    @staticmethod
    def relay(source, target):
        try:
            while piece := source.recv(65536):
                target.sendall(piece)
        except OSError:
            pass
