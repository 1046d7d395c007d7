"""What a device that has nothing to do costs its cloud; the figures of docs/scale.md.

    IDLE_SECONDS=2400 INTEGRATION_OPTIONS="-k with_nothing_to_do" …     at the intervals of the real cloud
"""

import os
import select
import signal
import socket
import threading
import time

from cloud import CloudTest, service
from harness import run, wait_until

POLLS = 6
IDLE_SECONDS = int(os.environ.get("IDLE_SECONDS", "0"))
METRICS = {"cpu_usage", "memory_usage", "memory_total", "storage_usage", "storage_total", "storage_block_device",
           "cpu_temp", "cpu_id"}
# Of the balenaCloud, and of its load balancer.
REAL_POLL, IDLE_LIMIT = 600_000, 60


class Meter:
    """Passes connections on and counts their bytes; with `patience` it ends those that were idle for so long."""

    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.bytes = self.connections = 0
        self.spans = []
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
        span = {"at": time.monotonic(), "last": time.monotonic(), "bytes": 0}
        self.spans.append(span)
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
                        last = span["last"] = time.monotonic()
                        span["bytes"] += len(piece)
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


class Packets:
    """Counts what goes over a port of the loopback, headers of IP and TCP included."""

    def __init__(self, test, port):
        self.rules = [["INPUT", "-p", "tcp", side, str(port)] for side in ("--dport", "--sport")]
        for rule in self.rules:
            run(["iptables", "--wait", "-I", *rule])
            test.addCleanup(run, ["iptables", "--wait", "-D", *rule])
        self.port = str(port)

    def read(self):
        """Packets and bytes."""
        rows = [line.split() for line in run(["iptables", "--wait", "-L", "INPUT", "-nvx"]).splitlines()]
        rows = [row for row in rows if any(word in (f"dpt:{self.port}", f"spt:{self.port}") for word in row)]
        return sum(int(row[0]) for row in rows), sum(int(row[1]) for row in rows)


class IdleTime(CloudTest):
    def test_a_device_with_nothing_to_do_sends_polls_and_reports_of_metrics_and_nothing_else(self):
        if IDLE_SECONDS:
            signal.alarm(IDLE_SECONDS + 300)
            self.cloud.poll_floor = REAL_POLL
        meter = Meter(self.stand_in.ports[0])
        self.addCleanup(meter.stop)
        release = self.cloud.add_release(self.fleet, {"main": service()})
        more = {"appUpdatePollInterval": REAL_POLL} if IDLE_SECONDS else {}
        agent = self.managed_agent(apiEndpoint=f"https://127.0.0.1:{meter.port}", **more)
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        wait_until(lambda: (rows := self.stand_in.seen("log-stream")) and all("done" in row for row in rows),
                   "what the start has logged is sent", seconds=180)
        meter.patience = IDLE_LIMIT
        packets = Packets(self, meter.port)
        first, begin, size = len(self.stand_in.requests), time.monotonic(), meter.bytes
        seconds = IDLE_SECONDS or 20
        time.sleep(seconds)
        rows = self.stand_in.requests[first:]
        count, all_bytes = packets.read()
        spans = [span for span in meter.spans if span["last"] > begin]
        kinds = {}
        for row in rows:
            kinds[row["endpoint"]] = kinds.get(row["endpoint"], 0) + 1
        print(f"{seconds} s: {kinds}, {meter.bytes - size} bytes of TLS on {len(spans)} connections, "
              f"{all_bytes} in {count} packets with the headers of IP and TCP")
        for span in spans:
            inside = [f"{row['endpoint']} {row.get('status', '')}{'resumed' if row.get('resumed') else ''}"
                      for row in rows if span["at"] - 1 < row["at"] < span["last"] + 1]
            print(f"  {span['at'] - begin:7.1f} to {span['last'] - begin:7.1f} s: {span['bytes']} bytes, {inside}")
        self.assertLessEqual(set(kinds), {"state-get", "state-patch", "connection"})
        self.assertEqual(
            {row["status"] for row in rows if row["endpoint"] == "state-get" and "done" in row} - {304}, set())
        for row in rows:
            for fields in (row.get("report") or {}).values():
                self.assertLessEqual(set(fields), METRICS)
        # A session is resumed where a connection is new.
        self.assertEqual([row for row in rows if row["endpoint"] == "connection" and not row["resumed"]], [])
