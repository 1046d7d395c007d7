"""`GET /v2/metrics`: the figures that something else has to move."""

import http.client
import re
import socket

import test_journal_stream as journal
from cloud import CloudTest, service as release_service
from harness import DeviceTest, app, service, wait_until


def value(page, name, labels=""):
    """A sample of a page of metrics."""
    found = re.search(rf"^supervisor_{name}{re.escape(labels)} ([0-9.]+)$", page, re.MULTILINE)
    if not found:
        raise AssertionError(f"no {name}{labels} in\n{page}")
    return float(found[1])


class LogLines(DeviceTest):
    engine_process = journal.LocalLogStream.engine_process
    listen = journal.LocalLogStream.listen

    def lines(self, agent, outcome):
        return value(agent.get("/v2/metrics").text, "log_lines_total", f'{{outcome="{outcome}"}}')

    def test_lines_that_listeners_get_and_lines_that_a_deaf_one_misses_are_counted(self):
        agent = self.agent(journal_directory=journal.FILES)
        agent.post_target(app(service("main")))
        container = self.wait_for_services(agent, "main")["main"]["Id"]
        write = self.engine_process()
        _, listener = self.listen(agent)
        wait_until(lambda: journal.journal_descriptors(agent), "the journal is open")
        before = self.lines(agent, "sent")
        for number in range(3):
            write(container, f"line {number}")
        for number in range(3):
            while f"line {number}".encode() not in listener.readline():
                pass
        self.assertGreaterEqual(self.lines(agent, "sent"), before + 3)
        self.assertEqual(self.lines(agent, "dropped"), 0)

        deaf = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=60)
        self.addCleanup(deaf.close)
        deaf.connect()
        deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.request("GET", "/v2/local/logs")
        self.assertEqual(deaf.getresponse().status, 200)

        def dropped():
            # Less than what waits for a client that reads.
            for _ in range(8):
                write(container, "x" * 16000)
            # The other one keeps up: each batch has a last line of its own.
            write(container, "end of the batch")
            while b"end of the batch" not in listener.readline():
                pass
            return self.lines(agent, "dropped") > 0

        wait_until(dropped, "lines for the deaf one are dropped")


class Work(DeviceTest):
    def test_pulls_that_fail_steps_and_calls_to_the_engine_are_counted(self):
        agent = self.agent()
        agent.post_target(app(service("one", image="127.0.0.1:1/not/there:1")))
        wait_until(lambda: value(agent.get("/v2/metrics").text, "pulls_total", '{outcome="failed"}') > 0,
                   "the failed pull is counted")
        page = agent.get("/v2/metrics").text
        self.assertEqual(value(page, "applying"), 1)
        self.assertEqual(value(page, "engine_reachable"), 1)
        self.assertGreater(value(page, "engine_requests_total"), 0)
        self.assertGreater(value(page, "engine_failures_total"), 0)
        self.assertGreater(value(page, "plans_total"), 0)
        self.assertGreater(value(page, "steps_total", '{step="fetch"}'), 0)

    def test_connections_and_wake_ups_are_counted(self):
        agent = self.agent()
        page = agent.get("/v2/metrics").text
        kept = [agent.connect() for _ in range(5)]
        wait_until(lambda: value(agent.get("/v2/metrics").text, "http_connections") >= 6, "they are open")
        later = agent.get("/v2/metrics").text
        self.assertGreaterEqual(value(later, "http_connections_total", '{outcome="accepted"}'),
                                value(page, "http_connections_total", '{outcome="accepted"}') + 6)
        # Each of these requests has woken the agent.
        self.assertGreater(value(later, "loop_wakeups_total"), value(page, "loop_wakeups_total"))
        for connection in kept:
            connection.close()


class CloudLines(CloudTest):
    def test_records_that_went_to_the_cloud_are_counted(self):
        release = self.cloud.add_release(self.fleet, {"main": release_service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        wait_until(lambda: device.logs, "the cloud has records")
        wait_until(lambda: value(agent.get(f"/v2/metrics?apikey={device.state['api_secret']}").text,
                                 "log_lines_total", '{outcome="sent"}') >= len(device.logs) > 0, "they are counted")
