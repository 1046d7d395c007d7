"""Answers of a cloud that are too long, or packed in a way that nobody asked for."""

from cloud import CloudTest, service
from harness import wait_until

TARGET, OTHERS, HEAD = 8 << 20, 1 << 20, 64 << 10


class Limits(CloudTest):
    def too_long(self, limit):
        return f"the answer is longer than {limit} bytes"

    def take(self, agent, device, name, **fault):
        """One answer with the fault has a new name for the device; the row of the fault."""
        row = self.stand_in.faults.add(endpoint="state-get", **fault)
        device.name = name
        wait_until(lambda: row.hits, "the answer is sent")
        return row

    def wait_for_name(self, agent, device, name):
        wait_until(lambda: self.get_json(agent, device, "/v2/device/name")["deviceName"] == name, f"the name is {name}")

    def test_a_target_of_eight_mebibytes_is_taken_and_one_of_a_byte_more_is_not(self):
        agent, device = self.provisioned_agent()
        wait_until(lambda: device.state.get("api_secret"), "the key is reported")
        self.take(agent, device, "full", size=TARGET)
        self.wait_for_name(agent, device, "full")
        self.stand_in.faults.clear()
        self.assertNotIn("is longer than", agent.log)
        row = self.take(agent, device, "longer", size=TARGET + 1)
        wait_until(lambda: self.too_long(TARGET) in agent.log, "it is said")
        wait_until(lambda: row.hits > 1, "it is asked for again")
        self.assertEqual(self.get_json(agent, device, "/v2/device/name")["deviceName"], "full")
        self.stand_in.faults.clear()
        self.wait_for_name(agent, device, "longer")

    def test_a_head_of_sixty_kibibytes_is_read_and_a_longer_one_is_not(self):
        agent, device = self.provisioned_agent()
        wait_until(lambda: device.state.get("api_secret"), "the key is reported")
        self.take(agent, device, "full", head=60 << 10)
        self.wait_for_name(agent, device, "full")
        self.stand_in.faults.clear()
        self.take(agent, device, "longer", head=70 << 10)
        wait_until(lambda: f"the answer's head is longer than {HEAD} bytes" in agent.log, "it is said")
        self.stand_in.faults.clear()
        self.wait_for_name(agent, device, "longer")

    def test_the_answer_that_a_pin_needs_has_the_limit_of_a_target(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.managed_agent(start=False)
        self.preload(agent, release)
        long = self.stand_in.faults.add(endpoint="state-get", size=TARGET + 1, count=2)
        full = self.stand_in.faults.add(endpoint="state-get", size=TARGET, count=1)
        agent.start()
        device = self.device(agent)
        wait_until(lambda: device.pin == release.commit, "the device is pinned")
        self.assertEqual((long.count, full.count), (0, 0))
        self.assertEqual(agent.log.count("cannot pin the device to the preloaded release"), 2)
        self.assertIn(self.too_long(TARGET), agent.log)

    def test_no_other_answer_is_longer_than_a_mebibyte(self):
        rows = {}
        for endpoint in ("register", "odata", "state-patch", "tags"):
            rows[endpoint] = [self.stand_in.faults.add(endpoint=endpoint, size=OTHERS + 1, count=1)]
            # And one of just that length is read.
            rows[endpoint].append(self.stand_in.faults.add(endpoint=endpoint, size=OTHERS, count=1))
        agent, device = self.provisioned_agent(persistentLogging=True)
        wait_until(lambda: device.state.get("api_secret"), "the key is reported")
        reply = agent.request("PATCH", f"/v2/device/tags?apikey={device.state['api_secret']}", {"one": "1"})
        self.assertEqual(reply.status, 202)
        wait_until(lambda: not any(row.count for each in rows.values() for row in each), "every answer is sent", seconds=150)
        wait_until(lambda: agent.log.count("Reported device tags to the cloud"), "the tags are known to be written")
        self.assertGreaterEqual(agent.log.count(self.too_long(OTHERS)), len(rows))
        agent.get(f"/v2/device/tags?apikey={device.state['api_secret']}")
        self.assertEqual(len(self.cloud.devices), 1)

    def test_answers_in_every_encoding_that_is_asked_for_are_read_and_others_do_no_harm(self):
        agent, device = self.provisioned_agent()
        wait_until(lambda: device.state.get("api_secret"), "the key is reported")
        asked = {name.strip() for name in self.stand_in.seen("state-get")[-1]["headers"]["accept-encoding"].split(",")}
        self.assertLessEqual({"gzip", "deflate"}, asked)
        good = [{"encoding": name, "size": size} for name in ("br", "deflate") if name in asked
                for size in (0, 200_000)]
        good.append({"encoding": "twice"})
        for number, fault in enumerate(good):
            with self.subTest(fault=fault):
                self.take(agent, device, f"good-{number}", **fault)
                self.wait_for_name(agent, device, f"good-{number}")
                self.stand_in.faults.clear()
        self.assertNotIn("Target state poll failed", agent.log)
        for fault in ({"encoding": "unknown"}, {"encoding": "corrupt-br"}):
            with self.subTest(fault=fault):
                failures = agent.log.count("Target state poll failed")
                self.take(agent, device, fault["encoding"], **fault)
                wait_until(lambda: agent.log.count("Target state poll failed") > failures, "it is said")
                self.stand_in.faults.clear()
                self.wait_for_name(agent, device, fault["encoding"])
        # What it says it can read it can read; a short answer that unpacks to too much is too long.
        self.take(agent, device, "bomb", encoding="twice", size=100 << 20)
        wait_until(lambda: self.too_long(TARGET) in agent.log, "it is said")
        self.assertLess(agent.memory()["Anonymous"], 32 * 1024)
        self.stand_in.faults.clear()
        self.wait_for_name(agent, device, "bomb")


class Connections(CloudTest):
    def test_a_cloud_that_is_slow_to_accept_and_takes_few_connections_is_lived_with(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        self.stand_in.accept_delay = 2
        slow = self.stand_in.faults.add(endpoint="state-get", body_wait=2, count=1)
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        self.assertEqual(slow.count, 0)
        # Polls and the log stream want a connection each.
        self.stand_in.accept_delay, self.stand_in.socket_limit = 0, 1
        for each in self.stand_in.servers:
            each.cut()
        new = self.cloud.add_release(self.fleet, {"main": service(environment={"NEW": "1"})})
        wait_until(lambda: self.stand_in.seen("refused-connection"), "a connection is one too many")
        self.stand_in.socket_limit = None
        self.wait_for_report(device, new, "main")
        wait_until(lambda: len([1 for _, record in device.log_arrivals if "Started service" in record["message"]]) > 1,
                   "the log stream gets through")

    def test_proxies_that_the_environment_names_are_not_asked(self):
        names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        agent = self.managed_agent(start=False)
        agent.start(environment={name: "http://127.0.0.1:9" for name in names})
        self.device(agent)
        wait_until(lambda: self.stand_in.seen("state-patch", status=200), "it reports")
