"""A name server of one cloud, with faults: for devices whose resolver asks it."""

import ipaddress
import socket
import struct
import threading
import time

A, AAAA = 1, 28
NO_SUCH_NAME, SERVER_FAILURE = 3, 2


class NameServer:
    """Answers A and AAAA on port 53 of the loopback.

    records       name -> addresses, in the order of the answer
    delay         seconds before each answer
    behaviour     "" answers; "unknown" says that there is no such name, "failure" that it cannot tell, "silent" nothing
    """

    def __init__(self, records=None, address="127.0.0.1"):
        self.records = records or {}
        self.delay = 0
        self.behaviour = ""
        self.asked = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        self.address = address
        self.socket.settimeout(0.1)
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def stop(self):
        self._stop.set()
        self.thread.join()
        self.socket.close()

    def write_configuration(self, path):
        """A resolv.conf(5) that names this server alone; a look-up takes as long as with four that do not answer."""
        with open(path, "w", encoding="ascii") as file:
            file.write(f"nameserver {self.address}\noptions timeout:10\n")
        return path

    def _serve(self):
        while not self._stop.is_set():
            try:
                query, client = self.socket.recvfrom(4096)
            except TimeoutError:
                continue
            threading.Thread(target=self._answer, args=(query, client), daemon=True).start()

    def _answer(self, query, client):
        name, kind, end = self._question(query)
        behaviour = self.behaviour
        self.asked.append((time.monotonic(), name, kind))
        if behaviour == "silent":
            return
        time.sleep(self.delay)
        version = 6 if kind == AAAA else 4
        known = self.records.get(name)
        addresses = [ipaddress.ip_address(text) for text in known or ()]
        addresses = [each.packed for each in addresses if each.version == version and kind in (A, AAAA)]
        code = 0 if known is not None else NO_SUCH_NAME
        if behaviour:
            code, addresses = (NO_SUCH_NAME if behaviour == "unknown" else SERVER_FAILURE), []
        head = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(addresses), 0, 0)
        rows = b"".join(struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(each)) + each for each in addresses)
        try:
            self.socket.sendto(head + query[12:end] + rows, client)
        except OSError:
            pass

    @staticmethod
    def _question(query):
        """The name, the type, and where the question ends."""
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        return ".".join(labels).lower(), struct.unpack_from(">H", query, at + 1)[0], at + 5


class BlackHole:
    """An address at which connections are neither taken nor refused: its queue is full."""

    def __init__(self, address, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sockets = [socket.socket(family)]
        if family == socket.AF_INET6:
            self.sockets[0].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sockets[0].bind((address, port))
        self.sockets[0].listen(0)
        for _ in range(4):
            filler = socket.socket(family)
            filler.setblocking(False)
            filler.connect_ex((address, port))
            self.sockets.append(filler)

    def stop(self):
        for each in self.sockets:
            each.close()
