"""POST /v2/journal-logs against journalctl itself, on the test device's living journal, over a socket."""

import http.client
import json
import os
import random
import socket
import struct
import subprocess
import uuid

from harness import DeviceTest, wait_until

NATIVE_SOCKET = "/run/systemd/journal/socket"
FILES = os.environ.get("SUPERVISOR_TEST_JOURNAL", "/run/log/journal")
FORMATS = (
    "short", "short-full", "short-iso", "short-iso-precise", "short-precise", "short-monotonic", "short-unix",
    "with-unit", "verbose", "export", "json", "json-pretty", "json-sse", "json-seq", "cat",
)
BOOT = open("/proc/sys/kernel/random/boot_id", encoding="ascii").read().strip().replace("-", "")


def write_entry(**fields):
    """One entry by journald's native protocol; text, bytes or a list of them for each field."""
    message = bytearray()
    for name, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            data = value if isinstance(value, bytes) else str(value).encode()
            if b"\n" in data or isinstance(value, bytes):
                message += name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
            else:
                message += name.encode() + b"=" + data + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, NATIVE_SOCKET)


def journalctl(*arguments):
    done = subprocess.run(
        ["journalctl", "--directory", FILES, "--no-pager", *arguments], capture_output=True, check=False, timeout=60,
        env={**os.environ, "LANG": "C.UTF-8", "SYSTEMD_COLORS": "0"})
    return done.stdout


def objects(text):
    """Objects one after the other with what stands between them: journalctl's keys have a new order at each run."""
    text = text.decode()
    found, place = [], 0
    decoder = json.JSONDecoder()
    while True:
        begin = text.find("{", place)
        if begin < 0:
            return [*found, text[place:]]
        value, end = decoder.raw_decode(text, begin)
        found += [text[place:begin], value]
        place = end


class Journal(DeviceTest):
    def agent_of_journal(self):
        agent = self.agent(start=False)
        return agent.start(journal_directory=FILES)

    def logs(self, agent, **options):
        answer = agent.request("POST", "/v2/journal-logs", options)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.body

    def entries(self, count=40):
        """Entries of every odd kind under an identifier of their own; returns it once journald has them."""
        generator = random.Random(count)
        name = f"odd-{uuid.uuid4().hex[:8]}"
        messages = [
            "plain", "two\nlines", "trailing\n", "", "tab\there", "\x1b[31mcolour\x1b[0m", "wide \u00e4\u20ac\U0001F600",
            b"not \xff\xfe text", b"a zero \x00 byte", "x" * 5000, 'quotes " and \\ and /', "\r\n", b"\x7f\x80", " lead",
        ]
        for number in range(count):
            more = {}
            if number % 3 == 0:
                more["PRIORITY"] = generator.randrange(8)
            if number % 4 == 0:
                more["SYSLOG_PID"] = 1000 + number
            if number % 5 == 0:
                more["CONTAINER_NAME"] = "a_b"
            if number % 7 == 0:
                more["REPEATED"] = ["one", "two", b"three\x00"]
            if number % 11 == 0:
                more["LARGE"] = "y" * 20000
            message = messages[number % len(messages)]
            if number % 13 != 12:
                more["MESSAGE"] = message
            write_entry(SYSLOG_IDENTIFIER=name, NUMBER=number, **more)
        wait_until(lambda: journalctl("-t", name, "-o", "json").count(b"\n") == count, "the journal has the entries")
        return name

    def test_every_format_is_what_journalctl_prints(self):
        name = self.entries()
        agent = self.agent_of_journal()
        for form in FORMATS:
            for everything in (False, True):
                with self.subTest(form, all=everything):
                    expected = journalctl("-t", name, "-o", form, *(["--all"] if everything else []))
                    got = self.logs(agent, containerId=name, format=form, all=everything)
                    self.assertEqual(len(got), len(expected))
                    if form.startswith("json"):
                        self.assertEqual(objects(got), objects(expected))
                    else:
                        self.assertEqual(got, expected)

    def test_counts_and_times_choose_the_same_entries(self):
        name = self.entries()
        agent = self.agent_of_journal()
        times = sorted(int(json.loads(line)["__REALTIME_TIMESTAMP"])
                       for line in journalctl("-t", name, "-o", "json").splitlines())
        middle = f"@{times[20] / 1e6:.6f}"
        for options, arguments in (
            ({"count": 1}, ["-n", "1"]),
            ({"count": 7}, ["-n", "7"]),
            ({"count": "7"}, ["-n", "7"]),
            ({"count": 1000}, ["-n", "1000"]),
            ({"since": middle}, ["-S", middle]),
            ({"until": middle}, ["-U", middle]),
            ({"since": middle, "count": 3}, ["-S", middle, "-n", "3"]),
            ({"until": middle, "count": 3}, ["-U", middle, "-n", "3"]),
            ({"since": "-1h"}, ["-S", "-1h"]),
            ({"since": "1 hour ago", "until": "now"}, ["-S", "1 hour ago"]),
            ({"since": "tomorrow"}, ["-S", "tomorrow"]),
            ({"until": "yesterday"}, ["-U", "yesterday"]),
        ):
            with self.subTest(**options):
                expected = journalctl("-t", name, "-o", "short-unix", *arguments)
                self.assertEqual(self.logs(agent, containerId=name, format="short-unix", **options), expected)

    def test_a_unit_means_what_it_means_to_journalctl(self):
        unit = f"job-{uuid.uuid4().hex[:8]}"
        for number in range(5):
            write_entry(MESSAGE=f"of the manager {number}", UNIT=f"{unit}.service", SYSLOG_IDENTIFIER="systemd")
            write_entry(MESSAGE=f"of the agent {number}", OBJECT_SYSTEMD_UNIT=f"{unit}.service")
            write_entry(MESSAGE=f"of a dump {number}", COREDUMP_UNIT=f"{unit}.service",
                        MESSAGE_ID="fc2e22bc6ee647b6b90729ab34a250b1")
        write_entry(MESSAGE="the last of them", SYSLOG_IDENTIFIER=unit)
        wait_until(lambda: journalctl("-t", unit, "-o", "cat") != b"", "the journal has the entries")
        agent = self.agent_of_journal()
        for spelling in (unit, f"{unit}.service", f"{unit[:-2]}*"):
            with self.subTest(spelling):
                expected = journalctl("-u", spelling, "-o", "export")
                self.assertEqual(self.logs(agent, unit=spelling, format="export"), expected)

    def test_an_unknown_identifier_has_no_entries(self):
        agent = self.agent_of_journal()
        self.assertEqual(self.logs(agent, containerId="nobody-at-all"), journalctl("-t", "nobody-at-all"))

    def test_bad_options_are_refused_before_the_first_byte(self):
        agent = self.agent_of_journal()
        for options, word in (
            ({"format": "shiny"}, "format"), ({"since": "whenever"}, "since"), ({"until": "25:61"}, "until"),
            ({"priority": 9}, "priority"), ({"cursor": ""}, "cursor"), ({"since": "today", "until": "yesterday"}, "since"),
        ):
            with self.subTest(**options):
                answer = agent.request("POST", "/v2/journal-logs", options)
                self.assertEqual(answer.status, 400, answer.text)
                self.assertIn(word, answer.json["message"])

    def test_a_follower_hears_of_each_entry_once_and_ends_with_its_client(self):
        name = f"follow-{uuid.uuid4().hex[:8]}"
        agent = self.agent_of_journal()
        files = len(os.listdir(f"/proc/{agent.process.pid}/fd"))
        connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=30)
        body = json.dumps({"follow": True, "format": "cat", "containerId": name, "count": 10})
        connection.request("POST", "/v2/journal-logs", body, {"Content-Type": "application/json"})
        stream = connection.getresponse()
        self.assertEqual(stream.status, 200)
        # From the first line on the stream is where it says it is.
        write_entry(MESSAGE="line 0", SYSLOG_IDENTIFIER=name)
        lines = [stream.readline().decode().strip()]
        for number in range(1, 200):
            write_entry(MESSAGE=f"line {number}", SYSLOG_IDENTIFIER=name)
        lines += [stream.readline().decode().strip() for _ in range(199)]
        self.assertEqual(lines, [f"line {number}" for number in range(200)])
        self.assertGreater(len(os.listdir(f"/proc/{agent.process.pid}/fd")), files)
        connection.sock.close() if connection.sock else stream.close()
        stream.close()
        wait_until(lambda: len(os.listdir(f"/proc/{agent.process.pid}/fd")) <= files, "the journal is closed")

    def test_the_streams_have_a_limit_with_an_answer(self):
        agent = self.agent_of_journal()
        streams = []
        try:
            for _ in range(16):
                connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=30)
                connection.request("POST", "/v2/journal-logs", json.dumps({"follow": True, "count": 1}),
                                   {"Content-Type": "application/json"})
                streams.append((connection, connection.getresponse()))
            answer = agent.request("POST", "/v2/journal-logs", {"count": 1})
            self.assertEqual(answer.status, 503, answer.text)
            self.assertIn("journal streams", answer.text)
            self.assertEqual(agent.get("/ping").text, "OK")
        finally:
            for connection, stream in streams:
                stream.close()
                connection.close()
        wait_until(lambda: agent.request("POST", "/v2/journal-logs", {"count": 1}).status == 200, "there is room again")
