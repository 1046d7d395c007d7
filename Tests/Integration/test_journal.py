"""POST /v2/journal-logs against journalctl itself, on the test device's living journal, over a socket."""

import json
import random
import uuid

from harness import DeviceTest, wait_until
from journal_device import FILES, count, journalctl, objects, send, write_entry

FORMATS = (
    "short", "short-full", "short-iso", "short-iso-precise", "short-precise", "short-monotonic", "short-unix",
    "with-unit", "verbose", "export", "json", "json-pretty", "json-sse", "json-seq", "cat",
)
BOOT = open("/proc/sys/kernel/random/boot_id", encoding="ascii").read().strip().replace("-", "")


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
            ({"count": "all"}, []),
            ({"count": 0}, []),
            ({"since": "@0"}, ["-S", "@0"]),
            ({"unit": "no-such-unit"}, ["-u", "no-such-unit"]),
            ({"priority": "warning"}, ["-p", "warning"]),
            ({"priority": 3}, ["-p", "3"]),
            ({"all": "true"}, ["--all"]),
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
            ({"until": "2012-13-01"}, "until"), ({"priority": 9}, "priority"), ({"priority": "loud"}, "priority"),
            ({"cursor": ""}, "cursor"), ({"cursor": "nonsense"}, "cursor"), ({"grep": ""}, "grep"),
            ({"service": ""}, "service"), ({"unit": ""}, "unit"), ({"containerId": "a\0b"}, "containerId"),
            ({"cursor": "s=1;i=1", "since": "now"}, "cursor"), ({"since": "today", "until": "yesterday"}, "since"),
        ):
            with self.subTest(**options):
                answer = agent.request("POST", "/v2/journal-logs", options)
                self.assertEqual(answer.status, 400, answer.text)
                self.assertIn(word, answer.json["message"])

    def test_a_cursor_goes_on_where_a_client_was(self):
        name = f"cursor-{uuid.uuid4().hex[:8]}"
        for number in range(5):
            send(name, f"message {number}")
        wait_until(lambda: count(name) == 5, "the entries are there")
        agent = self.agent_of_journal()
        first = [json.loads(line) for line in self.logs(agent, containerId=name, format="json").splitlines()]
        rest = self.logs(agent, containerId=name, format="cat", cursor=first[2]["__CURSOR"])
        self.assertEqual(rest, b"message 3\nmessage 4\n")

    def test_an_event_stream_is_asked_for_by_accept(self):
        name = f"event-{uuid.uuid4().hex[:8]}"
        send(name, "hello")
        wait_until(lambda: count(name) == 1, "the entry is there")
        agent = self.agent_of_journal()
        reply = agent.request("POST", "/v2/journal-logs", json.dumps({"containerId": name}),
                              {"Accept": "text/event-stream", "Content-Type": "application/json"})
        self.assertEqual(reply.headers["Content-Type"], "text/event-stream")
        self.assertEqual(reply.headers["Cache-Control"], "no-store")
        self.assertTrue(reply.text.startswith("data: {"), reply.text[:100])

    def test_grep_chooses_by_the_message(self):
        name = self.entries()
        agent = self.agent_of_journal()
        self.assertEqual(self.logs(agent, containerId=name, grep="lines", format="cat"), b"two\nlines\n" * 3)
