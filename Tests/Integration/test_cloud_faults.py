"""What a cloud can do to a device: failed provisioning, faults in every answer, certificates."""

import os
import time

from cloud import CloudTest, service
from harness import OTHER_IMAGE, wait_until


class Provisioning(CloudTest):
    def test_failed_registrations_and_a_lost_answer_keep_the_identity(self):
        for fault in ({"status": 500}, {"status": 400}, {"connection": "reset"}, {"connection": "lost-acknowledgement"}):
            self.stand_in.faults.add(endpoint="register", count=1, **fault)
        self.stand_in.faults.add(endpoint="odata", count=2, status=500)
        agent = self.managed_agent(start=False)
        agent.start()
        first = wait_until(lambda: self.config_of(agent).get("uuid"), "an identity")
        wait_until(lambda: "deviceId" in self.config_of(agent), "the device is provisioned")
        config = self.config_of(agent)
        self.assertEqual(config["uuid"], first)
        self.assertEqual(list(self.cloud.devices), [first])
        self.assertEqual(self.cloud.devices[first].keys, {config["deviceApiKey"]})
        self.assertEqual(config["deviceId"], self.cloud.devices[first].id)

    def test_a_pre_registered_device_makes_no_provisioning_traffic(self):
        uuid, key = "ab" * 16, "91e7c30fa5d24b86870ce4b12f9d356a"
        device = self.cloud.add_device(self.fleet, uuid, key)
        agent = self.managed_agent(
            apiKey=None, uuid=uuid, deviceApiKey=key, deviceId=device.id, registered_at=1_700_000_000)
        wait_until(lambda: self.stand_in.seen("state-patch", status=200), "it reports")
        self.assertEqual(self.stand_in.seen("register"), [])
        self.assertEqual(self.config_of(agent)["registered_at"], 1_700_000_000)

    def test_a_device_whose_key_is_exchanged_drops_the_provisioning_key(self):
        uuid, key = "ab" * 16, "91e7c30fa5d24b86870ce4b12f9d356a"
        device = self.cloud.add_device(self.fleet, uuid, "another-key-of-it")
        self.cloud.user_keys.add("user-key-of-a-person")
        agent = self.managed_agent(
            apiKey="user-key-of-a-person", uuid=uuid, deviceApiKey=key, deviceId=device.id, registered_at=1_700_000_000)
        wait_until(lambda: "apiKey" not in self.config_of(agent), "the provisioning key is dropped")
        self.assertIn(key, device.keys)
        wait_until(lambda: self.stand_in.seen("state-get", status=200), "it polls with its own key")

    def test_one_refused_variable_does_not_hold_up_the_others_or_the_polling(self):
        self.stand_in.faults.add(endpoint="odata", count=1, status=400)
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent(bootstrapRetryDelay=2000, appUpdatePollInterval=1500)
        self.wait_for_report(device, release, "main")
        self.assertEqual(len(self.stand_in.seen("register")), 1)


class Faults(CloudTest):
    POLL = (
        {"status": 500}, {"status": 401}, {"status": 404}, {"status": 403, "text": "Forbidden"}, {"status": 302},
        {"body": "empty"}, {"body": "truncated"}, {"body": "truncated-chunk"}, {"body": "invalid-json"},
        {"body": "wrong-shape"}, {"body": "wrong-uuid"}, {"body": "html"}, {"body": "corrupt-gzip"},
        {"body": "wrong-encoding"}, {"body": "nan"}, {"body": "large"}, {"body": "huge"}, {"body": "redirect-loop"},
        {"etag": "absent"}, {"etag": "changing"}, {"connection": "close"}, {"connection": "reset"},
        {"connection": "hang"}, {"connection": "lost-acknowledgement"}, {"connection": "reset-in-body"},
        {"etag": "strong"}, {"etag": "frozen"}, {"etag": "unmodified"}, {"body": "duplicate-keys"}, {"body_delay": 0.02},
        {"status": 503, "retry_after": "1"},
    )
    # Redirections that libcurl follows, and the first.
    REQUESTS = {"redirect-loop": 11}
    # With every form of Retry-After; overload is waited for at least 15 s.
    REFUSALS = (
        {"status": 409, "retry_after": "0"}, {"status": 423, "retry_after": "-5"}, {"status": 502, "retry_after": "soon"},
        {"status": 504, "retry_after": "Thu, 01 Jan 1998 00:00:00 GMT"}, {"status": 403, "retry_after": "1.5"},
        {"status": 429, "retry_after": "2"}, {"status": 503},
    )

    def test_every_refusal_of_a_call_heals_when_it_is_over(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        rows = [
            self.stand_in.faults.add(endpoint=endpoint, count=1, **fault)
            for endpoint in ("state-get", "state-patch") for fault in self.REFUSALS]
        rows.append(self.stand_in.faults.add(endpoint="tags", count=2, status=423, retry_after="-5"))
        new = self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE)})
        reply = agent.request("PATCH", f"/v2/device/tags?apikey={device.state['api_secret']}", {"one": "1"})
        self.assertEqual(reply.status, 202, reply.text)
        wait_until(lambda: all(row.count == 0 for row in rows), "every refusal is heard", seconds=240)
        self.wait_for_report(device, new, "main")
        wait_until(lambda: "one" in device.tags, "the tag is written")
        self.assertEqual(agent.get("/v1/healthy").status, 200)

    def test_an_answer_that_is_out_of_date_does_not_win_over_a_newer_one(self):
        agent, device = self.provisioned_agent()
        wait_until(lambda: device.state.get("api_secret"), "the key is reported")
        late = self.stand_in.faults.add(endpoint="state-get", count=1, late=3)
        device.name = "older"
        wait_until(lambda: late.hits, "an answer is on its way")
        device.name = "newer"
        self.cloud.notify()
        wait_until(lambda: self.get_json(agent, device, "/v2/device/name")["deviceName"] == "newer", "the newer name")
        polls = len(self.stand_in.seen("state-get", status=304))
        wait_until(lambda: len(self.stand_in.seen("state-get", status=304)) > polls + 1, "nothing comes after it")
        self.assertEqual(self.get_json(agent, device, "/v2/device/name")["deviceName"], "newer")
        self.assertEqual(self.stand_in.overlaps, [])

    def test_force_of_an_update_during_an_outage_does_not_override_locks_afterwards(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        container = self.wait_for_containers(agent, "main")["main"]["Id"]
        self.wait_for_report(device, release, "main")
        lock = agent.path(f"host/tmp/balena-supervisor/services/{self.fleet.id}/main/updates.lock")
        os.makedirs(os.path.dirname(lock), exist_ok=True)
        with open(lock, "w", encoding="ascii"):
            pass
        os.chown(lock, 1234, 1234)
        outage = self.stand_in.faults.add(endpoint="state-get", status=500)
        wait_until(lambda: outage.hits, "the outage")
        self.assertEqual(self.stand_in.forward(device, "POST", "/v1/update", {"force": True})[0], 204)
        hits = outage.hits
        wait_until(lambda: outage.hits > hits + 1, "the fetch that it causes fails, and one more")
        new = self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE)})
        self.stand_in.faults.clear()
        wait_until(lambda: "Updates are locked, retrying in" in agent.log, "the update waits for the lock")
        self.assertEqual(self.engine.service_containers(self.fleet.id)["main"]["Id"], container)
        os.remove(lock)
        self.wait_for_report(device, new, "main")

    def test_connections_that_the_cloud_closes_between_two_calls_cost_nothing(self):
        agent, device = self.provisioned_agent()
        wait_until(lambda: self.stand_in.seen("state-get", status=304), "it polls")
        for _ in range(3):
            closed = wait_until(self.stand_in.close_idle, "a connection is idle")
            self.assertGreater(closed, 0)
            polls = len(self.stand_in.seen("state-get"))
            wait_until(lambda: len(self.stand_in.seen("state-get")) > polls + 1, "it polls on")
        self.assertNotIn("Target state poll failed", agent.log)

    def test_a_refused_key_exchange_heals_when_it_is_over(self):
        uuid, key = "ab" * 16, "91e7c30fa5d24b86870ce4b12f9d356a"
        device = self.cloud.add_device(self.fleet, uuid, "another-key-of-it")
        self.cloud.user_keys.add("user-key-of-a-person")
        rows = [self.stand_in.faults.add(endpoint="device-key", count=1, **fault) for fault in self.REFUSALS]
        agent = self.managed_agent(
            apiKey="user-key-of-a-person", uuid=uuid, deviceApiKey=key, deviceId=device.id, registered_at=1_700_000_000)
        wait_until(lambda: "apiKey" not in self.config_of(agent), "the provisioning key is dropped", seconds=240)
        self.assertEqual([row.count for row in rows], [0] * len(rows))
        self.assertEqual(self.config_of(agent)["uuid"], uuid)
        self.assertIn(key, device.keys)

    def test_no_answer_to_a_poll_does_harm_and_the_next_good_one_counts(self):
        self.fleet.config["RESIN_SUPERVISOR_API_REQUEST_TIMEOUT"] = "2000"
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        container = self.wait_for_containers(agent, "main")["main"]["Id"]
        self.wait_for_report(device, release, "main")
        memory = agent.memory()["Anonymous"]
        for number, fault in enumerate(self.POLL):
            with self.subTest(fault=fault):
                # A changed name makes the answer that is spoilt a whole one.
                device.name = f"name-{number}"
                count = self.REQUESTS.get(fault.get("body"), 1)
                row = self.stand_in.faults.add(endpoint="state-get", count=count, **fault)
                wait_until(lambda: row.hits == count, f"the fault hits: {fault}")
        wait_until(
            lambda: self.get_json(agent, device, "/v2/device/name")["deviceName"] == f"name-{len(self.POLL) - 1}",
            "the last name is taken")
        self.assertEqual(self.wait_for_containers(agent, "main")["main"]["Id"], container)
        # 100 MB were sent; what is read of them is bounded.
        self.assertLess(agent.memory()["Anonymous"] - memory, 24 * 1024)

    def test_a_report_is_sent_again_until_it_is_taken(self):
        for fault in (
            {"status": 500}, {"connection": "reset"}, {"connection": "lost-acknowledgement"}, {"status": 413},
            {"status": 400}, {"status": 500, "committed": True},
        ):
            self.stand_in.faults.add(endpoint="state-patch", count=1, **fault)
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        wait_until(lambda: all(fault.count == 0 for fault in self.stand_in.faults.list), "every fault has been met", seconds=90)

    def test_a_cloud_that_answers_with_what_it_was_told_brings_no_key_into_the_log(self):
        agent, device = self.provisioned_agent()
        wait_until(lambda: device.state.get("api_secret"), "the key is reported")
        reply = agent.request("POST", f"/v1/regenerate-api-key?apikey={device.state['api_secret']}")
        key = reply.text
        refused = self.stand_in.faults.add(endpoint="state-patch", status=400, body="echo")
        polls = self.stand_in.faults.add(endpoint="state-get", status=500, body="echo")
        wait_until(lambda: refused.hits and polls.hits, "both are answered so")
        wait_until(lambda: "Device state report failure" in agent.log and "Target state poll failed" in agent.log, "it is said")
        self.assertIn("(hidden)", agent.log)
        for secret in (key, self.config_of(agent)["deviceApiKey"]):
            for length in (len(secret), 12):
                self.assertNotIn(secret[:length], agent.log)

    def test_a_cloud_that_refuses_apps_still_gets_the_rest_and_the_cause_is_said_once(self):
        # The cloud does not count this release as built: reports that name it are refused as a whole.
        release = self.cloud.add_release(self.fleet, {"main": service()}, status="failed")
        agent, device = self.provisioned_agent()
        wait_until(lambda: len(self.stand_in.seen("state-patch", status=401)) > 4, "reports are refused")
        wait_until(lambda: device.state.get("api_secret"), "the rest is reported")
        self.assertNotIn("apps", device.state)
        release.status = "success"
        self.wait_for_report(device, release, "main")
        self.assertEqual(agent.log.count("The cloud refuses this device's state reports"), 1)

    def test_an_invalid_target_is_rejected_with_its_reason_and_the_release_goes_on(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        container = self.wait_for_containers(agent, "main")["main"]["Id"]
        bad = self.cloud.add_release(self.fleet, {"main": service(environment={"1 bad": "x"})})
        wait_until(lambda: "Could not move to new release" in agent.log, "the reason is said")
        wait_until(
            lambda: {"Could not move", "1 bad"} <= {text for text in ("Could not move", "1 bad")
                                                    for record in device.logs if text in record["message"]},
            "the reason is in the device's log stream")
        polls = len(self.stand_in.seen("state-get", status=304))
        wait_until(lambda: len(self.stand_in.seen("state-get", status=304)) > polls + 1, "it is not fetched again")
        self.assertEqual(agent.log.count("Could not move to new release"), 1)
        self.assertEqual(self.wait_for_containers(agent, "main")["main"]["Id"], container)
        self.fleet.tracked = release.commit
        del self.fleet.releases[bad.commit]
        self.wait_for_report(device, release, "main")

    def test_a_cloud_that_is_gone_and_comes_back_changes_nothing_for_the_services(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        container = self.wait_for_containers(agent, "main")["main"]["Id"]
        self.wait_for_report(device, release, "main")
        self.stand_in.stop()
        wait_until(lambda: "Target state poll failed" in agent.log, "it notices")
        self.assertEqual(agent.get("/v1/healthy").status, 200)
        agent.kill()
        agent.start()
        self.assertEqual(self.wait_for_containers(agent, "main")["main"]["Id"], container)
        self.stand_in.start()
        new = self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE)})
        self.wait_for_report(device, new, "main")

    def test_a_deleted_device_keeps_its_release(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        container = self.wait_for_containers(agent, "main")["main"]["Id"]
        self.wait_for_report(device, release, "main")
        device.deleted = True
        polls = len(self.stand_in.seen("state-get"))
        wait_until(lambda: len(self.stand_in.seen("state-get")) > polls + 2, "it polls on")
        self.assertEqual(self.wait_for_containers(agent, "main")["main"]["Id"], container)
        device.deleted = False
        new = self.cloud.add_release(self.fleet, {"main": service(OTHER_IMAGE)})
        self.wait_for_report(device, new, "main")


class Certificates(CloudTest):
    def handshakes(self):
        return len(self.stand_in.seen("handshake"))

    def test_only_a_certificate_of_a_known_root_and_the_right_time_and_name_is_trusted(self):
        from certificates import Authority

        good = self.stand_in.authority.leaf("good")
        other = Authority(os.path.join(self.cloud_directory, "other"))
        for name, leaf in (
            ("unknown root", other.leaf()),
            ("expired", self.stand_in.authority.leaf("expired", start=-30, days=10)),
            ("not yet valid", self.stand_in.authority.leaf("early", start=10)),
            ("wrong name", self.stand_in.authority.leaf("name", subject="elsewhere", names="DNS:elsewhere")),
        ):
            with self.subTest(name):
                self.stand_in.use_certificate(*leaf)
                agent = self.managed_agent()
                wait_until(lambda: "Device bootstrap failed" in agent.log, "the certificate is refused")
                self.assertIn("certificate", agent.log)
                self.assertEqual(self.stand_in.seen("register"), [])
                self.stand_in.use_certificate(*good)
                self.device(agent)
                agent.kill()
                self.stand_in.requests.clear()

    def test_a_root_may_come_from_the_environment_and_a_bad_one_disables_nothing(self):
        path = os.path.join(self.cloud_directory, "extra.pem")
        with open(path, "w", encoding="ascii") as file:
            # One that is cut, and one of the right length that is no certificate.
            for body in ("broken", "MAMCAQE="):
                file.write(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
            file.write(self.stand_in.authority.pem)
        agent = self.managed_agent(start=False, balenaRootCA="!!!")
        agent.start(environment={"NODE_EXTRA_CA_CERTS": path})
        self.device(agent)
        self.assertIn("balenaRootCA", agent.log)
        self.assertEqual(agent.log.count("2 of 3 certificates of NODE_EXTRA_CA_CERTS cannot be read"), 1)
        # What stands in config.json counts anew with each change of the file, and is said when it is another.
        self.write_config(agent, {**self.config_of(agent), "unknown": 1})
        time.sleep(1)
        self.assertEqual(agent.log.count("certificates of NODE_EXTRA_CA_CERTS cannot be read"), 1)

    def test_a_root_that_comes_with_a_change_of_config_json_is_trusted_at_once(self):
        agent = self.managed_agent(balenaRootCA="")
        wait_until(lambda: "Device bootstrap failed" in agent.log, "the certificate is refused")
        self.write_config(agent, {**self.config_of(agent), "balenaRootCA": self.stand_in.root_base64})
        self.device(agent)

    def test_sessions_that_are_not_resumed_cost_a_handshake_and_nothing_else(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")

        def new_connections(count):
            """Whether the sessions of the next connections were resumed."""
            seen = len(self.stand_in.seen("connection"))

            def there():
                self.stand_in.close_idle()
                return len(self.stand_in.seen("connection")) >= seen + count

            wait_until(there, "connections are opened")
            return [row["resumed"] for row in self.stand_in.seen("connection")[seen:seen + count]]

        self.assertEqual(new_connections(2)[1:], [True])
        chain = self.stand_in.certificate
        # A load balancer that has changed its keys does not know the sessions of before, but those from then on.
        self.stand_in.use_certificate(*chain)
        self.assertEqual(new_connections(3), [False, True, True])
        self.stand_in.use_certificate(*chain, has_tickets=False)
        self.assertEqual(new_connections(3), [False, False, False])
        self.stand_in.use_certificate(*self.stand_in.authority.leaf("renewed"))
        self.assertEqual(new_connections(3), [False, True, True])
        self.assertNotIn("Target state poll failed", agent.log)
        polls = len(self.stand_in.seen("state-get", status=304))
        wait_until(lambda: len(self.stand_in.seen("state-get", status=304)) > polls, "it polls on")
