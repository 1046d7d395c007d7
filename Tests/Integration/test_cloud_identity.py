"""When a device gives its identity up: after definite answers over ten minutes, and for nothing else."""

import json
import os
import stat

from clocks import Clocks
from cloud import CloudTest
from harness import wait_until

UUID, KEY = "ab" * 16, "91e7c30fa5d24b86870ce4b12f9d356a"
# More than the answers have to be apart.
TEN_MINUTES = 601


class Identity(CloudTest):
    def setUp(self):
        super().setUp()
        self.clocks = Clocks(self.cloud_directory)

    def stranger(self, **more):
        """An agent with a uuid that the cloud knows by another key: it can neither register nor be found."""
        self.cloud.add_device(self.fleet, UUID, "key-of-somebody-else")
        agent = self.managed_agent(start=False, uuid=UUID, deviceApiKey=KEY, **more)
        agent.start(environment=self.clocks.environment)
        return agent

    def pass_time(self, agent, seconds):
        """Sets the monotonic clock ahead; a request makes the agent look at it."""
        self.clocks.pass_time(seconds)
        agent.get("/ping")

    def wait_for_attempts(self, agent, count):
        """As many more than there were."""
        seen = agent.log.count("Device bootstrap failed")
        wait_until(lambda: agent.log.count("Device bootstrap failed") >= seen + count, f"{count} attempts", seconds=120)

    def identity(self, agent):
        config = self.config_of(agent)
        return config["uuid"], config["deviceApiKey"]

    def former(self, agent):
        path = agent.path("former-identities.json")
        if not os.path.exists(path):
            return None
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        with open(path, encoding="utf-8") as file:
            return [(row["uuid"], row["deviceApiKey"]) for row in json.load(file)]

    def test_no_error_of_a_server_or_of_the_network_ever_throws_the_identity_away(self):
        self.stand_in.faults.add(endpoint="odata", status=500)
        agent = self.stranger()
        faults = (
            {"status": 500}, {"status": 502}, {"status": 503, "retry_after": "1"}, {"status": 429}, {"status": 400},
            {"connection": "reset"}, {"connection": "close"}, {"connection": "lost-acknowledgement"},
            {"body": "html"}, {"body": "empty"}, {"body": "invalid-json"}, {"body": "truncated"},
        )
        waited = 0
        self.wait_for_attempts(agent, 1)
        for fault in faults:
            with self.subTest(fault=fault):
                self.stand_in.faults.clear()
                row = self.stand_in.faults.add(endpoint="odata", **fault)
                failures = agent.log.count("Device bootstrap failed")
                # Between two attempts: one that is under way would be given up.
                waited += TEN_MINUTES
                self.pass_time(agent, waited)
                wait_until(lambda: agent.log.count("Device bootstrap failed") > failures and row.hits, "the look-up fails")
        self.assertEqual(self.identity(agent), (UUID, KEY))
        self.assertIsNone(self.former(agent))
        # A cloud that is told of the key has its device back.
        self.stand_in.faults.clear()
        self.cloud.devices[UUID].keys.add(KEY)
        self.pass_time(agent, waited + TEN_MINUTES)
        wait_until(lambda: self.config_of(agent).get("deviceId") == self.cloud.devices[UUID].id, "it is provisioned")
        self.assertEqual(self.identity(agent), (UUID, KEY))

    def test_a_cloud_that_says_for_ten_minutes_that_it_does_not_know_the_device_gets_it_as_a_new_one(self):
        agent = self.stranger()
        self.wait_for_attempts(agent, 4)
        self.assertEqual(self.identity(agent), (UUID, KEY))
        self.pass_time(agent, TEN_MINUTES)
        wait_until(lambda: self.identity(agent)[0] != UUID, "it has a new identity")
        self.assertEqual(self.former(agent), [(UUID, KEY)])
        uuid = self.identity(agent)[0]
        wait_until(lambda: uuid in self.cloud.devices, "it is registered as a new device")
        wait_until(lambda: "deviceId" in self.config_of(agent), "it knows")
        self.assertEqual(self.cloud.devices[UUID].keys, {"key-of-somebody-else"})

    def test_the_doubt_of_one_cloud_does_not_count_at_another(self):
        agent = self.stranger()
        self.wait_for_attempts(agent, 3)
        # The same stand-in by another name: the device has joined another cloud.
        config = self.config_of(agent)
        config["apiEndpoint"] = f"https://localhost:{self.stand_in.ports[0]}"
        # It says nothing definite until the time has passed.
        fault = self.stand_in.faults.add(endpoint="odata", status=500)
        self.wait_for_attempts(agent, 1)
        self.pass_time(agent, TEN_MINUTES)
        self.write_config(agent, config)
        wait_until(lambda: "starting the cloud link anew" in agent.log, "the link begins anew")
        self.assertTrue(fault.hits)
        self.stand_in.faults.clear()
        self.wait_for_attempts(agent, 3)
        self.assertEqual(self.identity(agent), (UUID, KEY))
        self.assertIsNone(self.former(agent))
        self.pass_time(agent, TEN_MINUTES * 2)
        wait_until(lambda: self.identity(agent)[0] != UUID, "ten minutes of its own are enough")

    def test_an_agent_that_is_started_again_doubts_from_the_beginning(self):
        agent = self.stranger()
        self.wait_for_attempts(agent, 3)
        agent.kill()
        self.clocks.pass_time(TEN_MINUTES)
        agent.start(environment=self.clocks.environment)
        self.wait_for_attempts(agent, 3)
        self.assertEqual(self.identity(agent), (UUID, KEY))

    def test_a_registered_device_that_the_cloud_does_not_find_keeps_its_identity_for_ever(self):
        agent = self.stranger(deviceId=5, registered_at=1_700_000_000)
        self.wait_for_attempts(agent, 4)
        self.pass_time(agent, TEN_MINUTES)
        self.wait_for_attempts(agent, 2)
        self.pass_time(agent, TEN_MINUTES * 10)
        self.wait_for_attempts(agent, 1)
        self.assertEqual(self.identity(agent), (UUID, KEY))
        self.assertIsNone(self.former(agent))
