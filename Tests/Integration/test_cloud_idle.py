"""What a device that has nothing to do costs its cloud; the figures of docs/scale.md."""

import select
import socket
import threading
import time

from cloud import CloudTest, service
from harness import wait_until

POLLS = 6


class Meter:
    """Passes connections on and counts their bytes; with `patience` it ends those that were idle for so long."""

    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.bytes = self.connections = 0
        self.patience = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            with client, socket.create_connection(self.target) as upstream:
                last = time.monotonic()
                while True:
                    ready = select.select([client, upstream], [], [], 0.05)[0]
                    if not ready and self.patience and time.monotonic() - last > self.patience:
                        return
                    for end in ready:
                        piece = end.recv(65536)
                        if not piece:
                            return
                        self.bytes += len(piece)
                        last = time.monotonic()
                        (upstream if end is client else client).sendall(piece)
        except OSError:
            pass

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Idle(CloudTest):
    def measure(self, meter):
        """Bytes and connections for each poll of a time in which nothing else is asked."""

        def window():
            first, size, connections = len(self.stand_in.requests), meter.bytes, meter.connections
            seen = len(self.stand_in.seen("state-get", status=304))
            wait_until(lambda: len(self.stand_in.seen("state-get", status=304)) >= seen + POLLS, "it polls")
            others = {row["endpoint"] for row in self.stand_in.requests[first:]}
            others -= {"state-get", "connection", "handshake"}
            return not others and ((meter.bytes - size) / POLLS, (meter.connections - connections) / POLLS)

        return wait_until(window, "nothing but polls", seconds=180)

    def test_an_idle_device_polls_over_one_connection_or_a_resumed_session(self):
        self.fleet.config["RESIN_SUPERVISOR_LOG_CONTROL"] = "false"
        meter = Meter(self.stand_in.ports[0])
        self.addCleanup(meter.stop)
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.managed_agent(apiEndpoint=f"https://127.0.0.1:{meter.port}")
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        kept, connections = self.measure(meter)
        self.assertEqual(connections, 0)
        meter.patience = 0.3
        resumed, _ = self.measure(meter)
        print(f"bytes for a poll: {kept:.0f} on a kept connection, {resumed:.0f} on one with a resumed session")
        self.assertLess(kept, 1500)
        self.assertLess(resumed, 4000)
