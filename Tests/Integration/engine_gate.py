"""A door between the agent and the engine: a unix socket that hands requests on, one by one, and can be told to do
something before or after any of them. What happens there happens at that very moment, on any machine."""

import os
import socket
import threading
import urllib.parse


class EngineGate:
    """For each request `before(method, path)` is called before the engine has it, `sent` when it has it, and `after`
    when it begins to answer. A request whose `before` returns False never reaches the engine; one whose `after` does is
    never answered. `before` may also return the bytes of an answer, which the engine is then not asked for."""

    def __init__(self, directory, engine_path):
        self.engine_path = engine_path
        self.path = os.path.join(directory, "gate")
        self.address = f"unix://{self.path}"
        self.open()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def open(self):
        """Lets everything pass."""
        self.before = self.sent = self.after = lambda method, path: True

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            head, body = self.read_request(client)
            if head is None:
                return
            method, target = head[0].split(" ")[:2]
            path = urllib.parse.urlsplit(target).path.partition("/v1.41")[2]
            verdict = self.before(method, path)
            if isinstance(verdict, bytes):
                client.sendall(verdict)
                return
            if not verdict:
                return
            upstream.connect(self.engine_path)
            lines = [line for line in head if not line.lower().startswith("connection:")]
            # One request for each connection: the end of an answer is the end of the connection.
            upstream.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
            self.sent(method, path)
            first = upstream.recv(65536)
            if self.after(method, path):
                self.pass_on(first, upstream, client)
        except OSError:
            pass
        finally:
            upstream.close()
            client.close()

    @staticmethod
    def pass_on(piece, upstream, client):
        # The other direction ends what the agent gives up.
        def watch():
            try:
                client.recv(1)
                upstream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

        threading.Thread(target=watch, daemon=True).start()
        while piece:
            client.sendall(piece)
            piece = upstream.recv(65536)
        client.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def read_request(client):
        received = b""
        while b"\r\n\r\n" not in received:
            piece = client.recv(65536)
            if not piece:
                return None, None
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        length = 0
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                length = int(value)
        while len(body) < length:
            body += client.recv(65536)
        return lines, body

    def stop(self):
        # Closing alone does not end an `accept` that waits.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def refusal(status, message):
    body = f'{{"message":"{message}"}}'.encode()
    return (f"HTTP/1.1 {status} Error\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n").encode() + body


def changes_container(method, path):
    return method in ("POST", "DELETE") and path.startswith("/containers/")
