"""The journal over HTTP: a real journald, and journalctl on the same files as the oracle."""

import collections
import glob
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid

from harness import DeviceTest, app, required, run, service, wait_until
from journal_device import ENGINE, FILES, NATIVE_SOCKET, count, journal_descriptors, journalctl, objects, send

# A hundred in a soak: JOURNAL_ROTATIONS=100 INTEGRATION_OPTIONS="-k rotation" scripts/run-tests integration
ROTATIONS = int(os.environ.get("JOURNAL_ROTATIONS", "10"))


# Writes without end, and rotates the journal now and then.
WRITER = """
import os, signal, socket, sys, time
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.connect(sys.argv[1])
number = 0
while True:
    journal.send(f"SYSLOG_IDENTIFIER={sys.argv[2]}\\nPRIORITY=6\\nMESSAGE=message {number}\\n".encode())
    number += 1
    if number % 10 == 0:
        time.sleep(0.01)
    if number % 400 == 0:
        os.kill(int(sys.argv[3]), signal.SIGUSR2)
"""


# Writes without end until its input ends.
STEADY_WRITER = """
import select, socket, sys
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.connect(sys.argv[1])
number = 0
while True:
    journal.send(f"SYSLOG_IDENTIFIER={sys.argv[2]}\\nPRIORITY=6\\nMESSAGE=message {number}\\n".encode())
    number += 1
    if number % 5 == 0 and select.select([sys.stdin], [], [], 0.01)[0]:
        break
"""


class JournalStream(DeviceTest):
    def setUp(self):
        super().setUp()
        self.identifier = f"test-{uuid.uuid4().hex}"

    def agent(self, **options):
        return super().agent(journal_directory=FILES, **options)

    def read(self, agent, **options):
        reply = agent.request("POST", "/v2/journal-logs", {"containerId": self.identifier, **options})
        self.assertEqual(reply.status, 200, reply.body[:300])
        self.assertIsNone(reply.headers.get("Content-Type"))
        return reply.body

    def follow(self, agent, **options):
        connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=30)
        self.addCleanup(connection.close)
        body = {"containerId": self.identifier, "follow": True, "format": "cat", **options}
        connection.request("POST", "/v2/journal-logs", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        self.assertEqual(response.status, 200)
        return connection, response

    def test_a_follower_hears_of_each_entry_once_and_ends_with_its_client(self):
        agent = self.agent()
        connection, response = self.follow(agent)
        # From the first line on the stream is where it says it is.
        send(self.identifier, "line 0")
        lines = [response.readline()]
        for number in range(1, 200):
            send(self.identifier, f"line {number}")
        lines += [response.readline() for _ in range(199)]
        self.assertEqual(lines, [b"line %d\n" % number for number in range(200)])
        self.assertTrue(journal_descriptors(agent))
        response.close()
        connection.close()
        wait_until(lambda: not journal_descriptors(agent), "the journal is closed again")

    def test_more_streams_than_allowed_are_refused_until_one_ends(self):
        agent = self.agent()
        streams = [self.follow(agent) for _ in range(16)]
        answer = agent.request("POST", "/v2/journal-logs", {"follow": True})
        self.assertEqual(answer.status, 503, answer.text)
        self.assertIn("journal streams", answer.text)
        self.assertEqual(agent.get("/ping").text, "OK")
        connection, response = streams.pop()
        response.close()
        connection.close()
        wait_until(lambda: agent.request("POST", "/v2/journal-logs", {"count": 1}).status == 200, "a place is free")

    def burst(self, agent, number, *request):
        """Requests that all arrive before one of them is answered: how often each status was the answer."""
        connections = []
        for _ in range(number):
            connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=60)
            self.addCleanup(connection.close)
            connection.connect()
            connections.append(connection)
        os.kill(agent.process.pid, signal.SIGSTOP)
        try:
            for connection in connections:
                connection.request(*request)
        finally:
            os.kill(agent.process.pid, signal.SIGCONT)
        answers = [connection.getresponse().status for connection in connections]
        for connection in connections:
            connection.close()
        return collections.Counter(answers)

    def test_of_a_burst_of_requests_no_more_than_allowed_become_streams(self):
        agent = self.agent()
        json_body = {"Content-Type": "application/json"}
        self.assertEqual(self.burst(agent, 40, "POST", "/v2/journal-logs", '{"follow":true}', json_body),
                         {200: 16, 503: 24})
        self.assertEqual(self.burst(agent, 40, "GET", "/v2/local/logs"), {200: 16, 503: 24})
        self.assertEqual(self.burst(agent, 40, "GET", "/v2/events"), {200: 16, 503: 24})
        wait_until(lambda: agent.request("POST", "/v2/journal-logs", {"count": 1}).status == 200, "a place is free")

    def test_a_changed_time_zone_counts_from_the_next_stream_on(self):
        send(self.identifier, "one")
        wait_until(lambda: count(self.identifier) == 1, "the entry is there")
        agent = self.agent()
        before = self.read(agent, format="short-iso")
        zone = os.path.realpath("/etc/localtime")
        run(["mount", "--bind", "/usr/share/zoneinfo/Asia/Tokyo", zone])
        self.addCleanup(run, ["umount", "-l", zone])
        after = self.read(agent, format="short-iso")
        self.assertIn(b"+0900", after)
        self.assertNotEqual(after, before)
        self.assertEqual(after, journalctl("-t", self.identifier, "-o", "short-iso"))

    def test_reads_up_to_a_time_are_what_journalctl_prints_while_the_journal_is_rotated(self):
        with open(os.path.join(required("SUPERVISOR_TEST_DIRECTORY"), "journald/journald.pid"), encoding="utf-8") as file:
            journald = int(file.read())
        agent = self.agent()
        writer = subprocess.Popen([sys.executable, "-c", WRITER, NATIVE_SOCKET, self.identifier, str(journald)])
        self.addCleanup(writer.wait, 30)
        self.addCleanup(writer.kill)
        files = set(glob.glob(f"{FILES}/*/*.journal"))
        for number, form in enumerate(("short", "json", "export") * 3):
            wait_until(lambda number=number: count(self.identifier) > 200 * (number + 1), "more entries")
            last = json.loads(journalctl("-t", self.identifier, "-n", "1", "-o", "json"))
            until = f"@{int(last['__REALTIME_TIMESTAMP']) / 1e6:.6f}"
            ours = self.read(agent, format=form, until=until)
            theirs = journalctl("-t", self.identifier, "-o", form, "-U", until)
            with self.subTest(form, round=number):
                self.assertIsNone(writer.poll())
                self.assertGreater(len(theirs), 10_000)
                if form == "json":
                    ours, theirs = objects(ours), objects(theirs)
                self.assertTrue(ours == theirs, f"{len(ours)} and {len(theirs)}")
        self.assertGreater(len(set(glob.glob(f"{FILES}/*/*.journal")) - files), 1)

    def test_rotation_and_vacuuming_lose_nothing_and_leave_no_deleted_file_open(self):
        agent = self.agent()
        connection, response = self.follow(agent)
        # A client that takes a byte and no more, of more than its socket holds.
        stalled = f"{self.identifier}-stalled"
        for _ in range(400):
            send(stalled, "s" * 30_000)
        wait_until(lambda: count(stalled) == 400, "the entries for the client that stalls")
        _, other = self.follow(agent, containerId=stalled, count=400)
        other.read(1)
        with open(os.path.join(required("SUPERVISOR_TEST_DIRECTORY"), "journald/journald.pid"), encoding="utf-8") as file:
            journald = int(file.read())
        writer = subprocess.Popen([sys.executable, "-c", STEADY_WRITER, NATIVE_SOCKET, self.identifier], stdin=subprocess.PIPE)
        self.addCleanup(writer.wait, 30)
        self.addCleanup(writer.kill)
        number, descriptors = 0, []
        for _ in range(ROTATIONS):
            before = set(glob.glob(f"{FILES}/*/*.journal"))
            os.kill(journald, signal.SIGUSR2)
            # Everything that is written meanwhile comes, each once and in its order.
            wanted = number + 100
            while number < wanted or not set(glob.glob(f"{FILES}/*/*.journal")) - before:
                self.assertEqual(response.readline(), b"message %d\n" % number)
                number += 1
            run(["journalctl", "--directory", FILES, "--vacuum-files=3"])
            wait_until(lambda: not [name for name in journal_descriptors(agent) if "(deleted)" in name],
                       "no deleted file is open", seconds=60)
            self.assertIsNone(writer.poll())
            descriptors.append(len(os.listdir(f"/proc/{agent.process.pid}/fd")))
        self.assertLess(descriptors[-1], descriptors[0] + 10)
        self.assertNotIn("was cut off or damaged", agent.log)
        connection.close()

    def test_files_that_are_cut_off_or_damaged_do_not_end_the_agent(self):
        for number in range(400):
            send(self.identifier, f"message {number} " + "z" * 400)  # Longer ones are compressed.
        wait_until(lambda: count(self.identifier) == 400, "the entries are there")
        source = max(glob.glob(f"{FILES}/*/*.journal"), key=os.path.getmtime)
        agent = super().agent(start=False)
        directory = agent.path("journal")
        os.mkdir(directory)
        copy = os.path.join(directory, "damaged.journal")
        agent.start(journal_directory=directory)
        size = os.path.getsize(source)

        def messages(body):
            found = re.findall(rb"message (\d+) z+", body)
            self.assertEqual(len(set(found)), len(found), "an entry came twice")
            return [int(number) for number in found]

        def read():
            answer = agent.request("POST", "/v2/journal-logs", {"format": "cat", "containerId": self.identifier})
            self.assertEqual(answer.status, 200)
            return messages(answer.body)

        warning = "A file of the journal was cut off or damaged"
        shutil.copy(source, copy)
        whole = read()
        self.assertGreater(len(whole), 100)
        self.assertNotIn(warning, agent.log)
        # What libsystemd does not even open is as for journalctl: there is nothing to read.
        for length in (size // 2, 300_000, 100_000, 4096, 200, 0):
            with self.subTest(length):
                shutil.copy(source, copy)
                os.truncate(copy, length)
                answer = subprocess.run(
                    ["journalctl", "--directory", directory, "--no-pager", "-o", "cat", "-t", self.identifier],
                    capture_output=True, check=False)
                self.assertGreaterEqual(len(read()), len(messages(answer.stdout)))
                self.assertEqual(agent.get("/ping").text, "OK")
        # Entries' objects in the middle are none any more: what comes behind them is read, and the log says so.
        shutil.copy(source, copy)
        with open(copy, "r+b") as file:
            content = bytearray(file.read())
            begin = content.find(b"MESSAGE=message 200 ")
            self.assertGreater(begin, 0)
            entries = [at for at in range(begin & ~7, size - 64, 8)
                       if content[at:at + 8] == b"\3" + bytes(7) and 64 <= content[at + 8] and not any(content[at + 9:at + 16])]
            self.assertGreater(len(entries), 20)
            for at in entries[5:10]:
                file.seek(at)
                file.write(b"\x77")
        left = read()
        self.assertEqual(left[-1], whole[-1])
        self.assertGreater(len(left), len(whole) - 60)
        self.assertLess(len(left), len(whole))
        wait_until(lambda: warning in agent.log, "the log tells of the damage")
        # Cut off while it is mapped, before the client has taken what was in it.
        seen = agent.log.count(warning)
        shutil.copy(source, copy)
        connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=30)
        connection.request("POST", "/v2/journal-logs", '{"follow":true,"count":1000}',
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read(1000)
        os.truncate(copy, 8192)
        self.assertEqual(agent.request("POST", "/v2/journal-logs", {"format": "json"}).status, 200)
        response.read1(1 << 20)
        wait_until(lambda: agent.log.count(warning) > seen, "the log tells of the file that was cut off")
        connection.close()
        self.assertEqual(agent.get("/ping").text, "OK")

    def test_no_process_is_started_for_logs(self):
        agent = self.agent()
        _, response = self.follow(agent)
        send(self.identifier, "hello")
        response.readline()
        with open(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children", encoding="utf-8") as file:
            self.assertEqual(file.read(), "")


def response_lines(response, number):
    return [response.readline().decode().rstrip("\n") for _ in range(number)]


class LocalLogStream(DeviceTest):
    def engine_process(self):
        process = subprocess.Popen([sys.executable, "-c", ENGINE, NATIVE_SOCKET], stdin=subprocess.PIPE, text=True)

        def end():
            process.stdin.close()
            process.wait(30)

        self.addCleanup(end)

        def write(container, message, priority="6", **more):
            entry = {"CONTAINER_ID_FULL": container, "MESSAGE": message, "PRIORITY": priority, **more}
            process.stdin.write(json.dumps(entry) + "\n")
            process.stdin.flush()

        return write

    def listen(self, agent):
        connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=60)
        self.addCleanup(connection.close)
        connection.request("GET", "/v2/local/logs")
        listener = connection.getresponse()
        self.assertEqual(listener.status, 200)
        self.assertIsNone(listener.headers.get("Content-Type"))
        self.assertEqual(listener.readline(), b'{"message":"Streaming logs","isSystem":true}\n')
        return connection, listener

    def records(self, listener, number):
        """The next lines of services."""
        found = []
        while len(found) < number:
            record = json.loads(listener.readline())
            if "serviceName" in record:
                found.append(record)
        return found

    def test_containers_that_log_elsewhere_are_said_once_to_those_who_listen(self):
        agent = self.agent(journal_directory=FILES)
        agent.post_target(app(service("main"), service("quiet", number=2, environment={"BALENA_LOGS_LEVEL": "none"})))
        self.wait_for_services(agent, "main", "quiet")
        text = "The container of main logs to 'json-file' and not to journald: its lines are missing in the log stream"
        connection, listener = self.listen(agent)
        seen = []
        while text not in seen:
            record = json.loads(listener.readline())
            self.assertTrue(record["isSystem"])
            seen.append(record["message"])
        self.assertNotIn("container of quiet", "".join(seen))
        listener.close()
        connection.close()
        agent.post_target(app(service("main", environment={"A": "B"})))
        wait_until(lambda: agent.status()["appState"] == "applied", "the other container runs")
        connection, listener = self.listen(agent)
        restarting = agent.request("POST", "/v2/applications/1/restart-service", {"serviceName": "main"})
        self.assertEqual(restarting.status, 200, restarting.text)
        events = [json.loads(listener.readline())["message"]]
        while not events[-1].startswith(("Started service", "Restarting service", "Starting service")):
            events.append(json.loads(listener.readline())["message"])
        self.assertNotIn(text, events)
        self.assertEqual(agent.log.count(text), 1)
        listener.close()
        connection.close()

    def test_lines_of_services_reach_every_listener(self):
        agent = self.agent(journal_directory=FILES)
        levels = {"quiet": "none", "errors": "error"}
        agent.post_target(app(service("main"), *(
            service(name, number=number, environment={"BALENA_LOGS_LEVEL": level})
            for number, (name, level) in enumerate(levels.items(), 2))))
        running = self.wait_for_services(agent, "main", *levels)
        main, quiet, errors = (running[name]["Id"] for name in ("main", *levels))
        listeners = [self.listen(agent) for _ in range(2)]
        wait_until(lambda: journal_descriptors(agent), "the journal is open")
        agent.get("/ping")
        write = self.engine_process()
        part = {"CONTAINER_PARTIAL_MESSAGE": "true", "CONTAINER_PARTIAL_ID": "p1"}
        write(main, "hello")
        write("f" * 64, "someone else's")
        write(quiet, "never", "3")
        write(errors, "not this")
        write(errors, "this", "3")
        write(main, "of a terminal\r", "3")
        write(main, "a" * 16384, CONTAINER_PARTIAL_ORDINAL="1", CONTAINER_PARTIAL_LAST="false", **part)
        write(main, "b" * 100, CONTAINER_PARTIAL_ORDINAL="2", CONTAINER_PARTIAL_LAST="true", **part)
        for _, listener in listeners:
            records = self.records(listener, 4)
            self.assertEqual([(r["serviceName"], r["message"], r["isStdErr"]) for r in records], [
                ("main", "hello", False), ("errors", "this", True), ("main", "of a terminal", True),
                ("main", "a" * 16384 + "b" * 100, False)])
            self.assertEqual(list(records[0]), ["serviceName", "message", "isStdErr", "timestamp", "serviceId"])
        for connection, listener in listeners:
            listener.close()
            connection.close()
        wait_until(lambda: not journal_descriptors(agent), "the journal is closed when nobody listens")
