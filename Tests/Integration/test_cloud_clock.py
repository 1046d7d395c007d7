"""The device's clock is set while the agent talks to its cloud: waits go by the monotonic clock."""

import time

from clocks import Clocks
from cloud import CloudTest, service
from harness import wait_until

HOUR, YEAR = 3600, 365 * 86400


class Clock(CloudTest):
    def setUp(self):
        super().setUp()
        self.clocks = Clocks(self.cloud_directory)

    def events(self, device):
        return [record for _, record in device.log_arrivals if record.get("isSystem")]

    def test_a_clock_at_1970_is_named_and_heals_when_the_time_is_set(self):
        self.clocks.set(1000)
        agent = self.managed_agent(start=False)
        agent.start(environment=self.clocks.environment)
        wait_until(lambda: "the device's clock stands before 2024" in agent.log, "the clock is named as the cause")
        self.assertEqual(self.stand_in.seen("register"), [])
        self.clocks.set(None)
        self.device(agent)
        wait_until(lambda: self.stand_in.seen("state-patch", status=200), "it reports")

    def test_polls_reports_and_logs_go_on_at_their_pace_whatever_the_clock_jumps_to(self):
        # Valid whenever, so that the clock has nothing to do with trust.
        self.stand_in.use_certificate(*self.stand_in.authority.leaf("always", start=-20 * 365, days=40 * 365))
        agent = self.managed_agent(start=False)
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent.start(environment=self.clocks.environment)
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        for number, jump in enumerate((HOUR, -HOUR, 3 * YEAR, -3 * YEAR, 0)):
            with self.subTest(jump=jump):
                self.clocks.move(jump)
                seen, begin = len(self.stand_in.seen("state-get")), time.monotonic()
                arrived = len(self.events(device))
                release = self.cloud.add_release(self.fleet, {"main": service(environment={"NUMBER": str(number)})})
                self.wait_for_report(device, release, "main")
                wait_until(lambda: any("Started service" in r["message"] for r in self.events(device)[arrived:]),
                           "what the agent says arrives")
                record = next(r for r in self.events(device)[arrived:] if "Started service" in r["message"])
                # The time of day is what a record says of it.
                self.assertLess(abs(record["timestamp"] / 1000 - time.time() - jump), 120)
                polls = len(self.stand_in.seen("state-get")) - seen
                self.assertGreater(polls, 0)
                # One a second, with half a second of jitter.
                self.assertLess(polls, (time.monotonic() - begin) + 3)
        reports = [row["at"] for row in self.stand_in.seen("state-patch")]
        self.assertGreater(min(later - earlier for earlier, later in zip(reports[1:], reports[2:])), 9.5)
        self.assertEqual(agent.get("/v1/healthy").status, 200)
        self.assertEqual(self.stand_in.overlaps, [])

    def test_a_clock_that_is_ten_years_off_makes_certificates_invalid_until_it_is_right(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.managed_agent(start=False)
        agent.start(environment=self.clocks.environment)
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        container = self.wait_for_containers(agent, "main")["main"]["Id"]
        for number, jump in enumerate((10 * YEAR, -10 * YEAR)):
            with self.subTest(jump=jump):
                self.clocks.move(jump)
                failures = agent.log.count("Target state poll failed")

                def fails():
                    self.stand_in.close_idle()
                    return agent.log.count("Target state poll failed") > failures

                wait_until(fails, "a new connection is refused")
                self.assertIn("certificate", agent.log.rpartition("Target state poll failed")[2].splitlines()[0])
                self.assertEqual(self.wait_for_services_of_engine("main")["main"]["Id"], container)
                self.assertEqual(agent.get("/v1/healthy").status, 200)
                self.clocks.move(0)
                device.name = f"name-{number}"
                wait_until(
                    lambda: self.get_json(agent, device, "/v2/device/name")["deviceName"] == device.name, "it heals")
        self.assertIn("the device's clock stands before 2024", agent.log)

    def wait_for_services_of_engine(self, *names):
        return wait_until(
            lambda: (found := self.engine.service_containers(self.fleet.id)) and sorted(found) == sorted(names) and found,
            "the services are there")
