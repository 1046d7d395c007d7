"""The stand-in keeps the rules of the real API that the other tests rely on."""

import http.client
import json
import os
import ssl
import tempfile
import time
import unittest

import cloud
import reports
from harness import required, wait_until

UUID, KEY, PERSON = "cd" * 16, "key-of-the-device", "key-of-a-person"


class Rules(unittest.TestCase):
    def setUp(self):
        base = os.path.join(required("SUPERVISOR_TEST_DIRECTORY"), "clouds")
        os.makedirs(base, exist_ok=True)
        self.stand_in = cloud.StandIn(tempfile.mkdtemp(dir=base), refusal_memory=600)
        self.addCleanup(self.stand_in.stop)
        self.cloud = self.stand_in.cloud
        self.fleet = self.cloud.add_fleet("fleet", provisioning_key="provisioning")
        self.release = self.cloud.add_release(self.fleet, {"main": {"image": "registry/a@sha256:1"}})
        self.device = self.cloud.add_device(self.fleet, UUID, KEY)
        self.cloud.user_keys.add(PERSON)
        self.context = ssl.create_default_context(cadata=self.stand_in.authority.pem)

    def ask(self, method, path, body=None, key=KEY, **headers):
        connection = http.client.HTTPSConnection("127.0.0.1", self.stand_in.ports[0], timeout=20, context=self.context)
        try:
            if key:
                headers["Authorization"] = f"Bearer {key}"
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def report(self, **fields):
        return self.ask("PATCH", "/device/v3/state", {UUID: fields})[0]

    def apps(self, status="done", **service):
        row = {"image": "registry/a@sha256:1", "status": "Running", **service}
        return {self.fleet.uuid: {"release_uuid": self.release.commit, "releases": {
            self.release.commit: {"update_status": status, "services": {"main": row}}}}}

    def test_a_refused_key_stays_refused_for_a_while(self):
        path = f"/device/v3/{UUID}/state"
        self.assertEqual(self.ask("GET", path, key="new")[0], 401)
        self.device.keys.add("new")
        self.assertEqual(self.ask("GET", path, key="new")[0], 401)
        self.assertEqual(self.ask("GET", path)[0], 200)
        self.cloud.refusal_memory = 0
        wait_until(lambda: self.ask("GET", path, key="new")[0] == 200, "it is forgotten")

    def test_a_frozen_and_a_deleted_device_get_304_for_a_target_and_401_for_a_report(self):
        for name in ("frozen", "deleted"):
            setattr(self.device, name, True)
            status, headers, body = self.ask("GET", f"/device/v3/{UUID}/state")
            self.assertEqual((status, headers["ETag"], body), (304, None, b""))
            self.assertEqual(self.report(status="Idle"), 401)
            setattr(self.device, name, False)

    def test_reports_of_metrics_alone_are_stored_once_a_minute_and_others_always(self):
        self.assertEqual(self.report(cpu_usage=1), 200)
        self.assertEqual(self.report(cpu_usage=2), 200)
        self.assertEqual(self.device.state["cpu_usage"], 1)
        self.assertEqual(self.report(cpu_usage=2**40, status="Idle", cpu_id="ABC", unknown=1), 200)
        self.assertEqual(self.device.state["cpu_usage"], reports.LARGEST)
        self.assertEqual(self.device.state["cpu_id"], "abc")
        self.assertNotIn("unknown", self.device.state)
        self.assertEqual(self.device.address, "127.0.0.1")
        self.assertEqual(self.report(cpu_id="A\u0007", status="x" * 60, ip_address="1.2.3.4 " * 400), 200)
        self.assertEqual(self.device.state["cpu_id"], "abc")
        self.assertEqual(len(self.device.state["status"]), 50)
        self.assertLessEqual(len(self.device.state["ip_address"]), 2000)
        self.assertTrue(self.device.state["ip_address"].endswith("1.2.3.4"))

    def test_a_report_is_taken_or_refused_as_a_whole(self):
        self.assertEqual(self.report(status=None), 400)
        self.assertEqual(self.report(status="one", apps=self.apps(image="registry/other@sha256:2")), 401)
        self.assertNotIn("status", self.device.state)
        self.assertEqual(self.report(apps=self.apps(status="unheard of")), 400)
        self.assertEqual(self.report(apps=self.apps()), 200)
        self.assertEqual((self.device.running, self.device.update_status), (self.release.commit, "done"))
        other = self.cloud.add_release(self.fleet, {"main": {"image": "registry/b@sha256:1"}})
        apps = self.apps()
        apps[self.fleet.uuid]["releases"][other.commit] = {"update_status": "downloading", "services": {
            "main": {"image": "registry/b@sha256:1", "status": "Downloading", "download_progress": 1}}}
        self.assertEqual(self.report(apps=apps), 200)
        self.assertEqual(self.device.update_status, "downloading")
        row = self.device.image_rows[other.commit, "main"]
        apps[self.fleet.uuid]["releases"][other.commit]["services"]["main"]["download_progress"] = 50
        self.assertEqual(self.report(apps=apps), 200)
        self.assertEqual(row["download_progress"], 1)
        apps[self.fleet.uuid]["releases"][other.commit]["services"]["main"]["download_progress"] = 100
        self.assertEqual(self.report(apps=apps), 200)
        self.assertEqual(row["download_progress"], 100)
        self.assertEqual(self.report(apps=self.apps()), 200)
        self.assertTrue(row["deleted"])

    def test_logs_are_read_by_people_and_written_in_batches_by_devices_of_old(self):
        path = f"/device/v2/{UUID}/logs"
        now = int(time.time() * 1000)
        records = [{"message": str(number), "timestamp": now + number} for number in range(3)]
        self.assertEqual(self.ask("POST", path, records)[0], 201)
        self.assertEqual(self.ask("POST", path, records * 4)[0], 400)
        self.assertEqual(self.ask("GET", path)[0], 401)

        def read(query=""):
            return [row["message"] for row in json.loads(self.ask("GET", f"{path}{query}", key=PERSON)[2])]

        self.assertEqual(read(), ["0", "1", "2"])
        self.assertEqual(read("?count=1"), ["2"])
        self.assertEqual(read(f"?start={now + 1}"), ["1", "2"])
        self.assertEqual(self.ask("GET", f"{path}?start=1970-01-01T00:00:00Z", key=PERSON)[0], 400)
        answers = [self.ask("POST", path, []) for _ in range(14)]
        self.assertEqual({status for status, _, _ in answers}, {201})
        # On a busy machine the first of them may be older than ten seconds by now.
        while answers[-1][0] == 201 and len(answers) < 60:
            answers.append(self.ask("POST", path, []))
        status, headers, _ = answers[-1]
        self.assertEqual((status, headers["Retry-After"]), (429, "10"))

    def test_a_stream_of_logs_shows_what_comes(self):
        connection = http.client.HTTPSConnection("127.0.0.1", self.stand_in.ports[0], timeout=20, context=self.context)
        self.addCleanup(connection.close)
        self.cloud.add_record(self.device, {"message": "before", "timestamp": 1})
        connection.request("GET", f"/device/v2/{UUID}/logs?stream=1&count=1", headers={"Authorization": f"Bearer {PERSON}"})
        answer = connection.getresponse()
        self.assertEqual(json.loads(answer.readline())["message"], "before")
        self.cloud.add_record(self.device, {"message": "after", "timestamp": 2})
        self.assertEqual(json.loads(answer.readline())["message"], "after")

    def test_a_remote_call_needs_the_right_to_it_and_a_device(self):
        body = {"uuid": UUID, "method": "get"}
        self.assertEqual(self.ask("POST", "/supervisor/ping", body, key="")[0], 403)
        self.assertEqual(self.ask("POST", "/supervisor/ping", {**body, "method": "BREW"}, key=PERSON)[0], 400)
        self.assertEqual(self.ask("POST", "/supervisor/ping", {"uuid": "0"}, key=PERSON)[0], 404)
        self.assertEqual(self.ask("POST", "/supervisor/ping", {}, key=PERSON)[0], 400)

    def test_an_operating_system_finds_what_it_asks_for(self):
        self.assertEqual(json.loads(self.ask("GET", "/os/v1/config/")[2])["schema_version"], "1.0.0")
        self.cloud.supervisor_releases = [{"supervisor_version": "v1", "image_name": "registry/agent"}]
        self.assertEqual(
            json.loads(self.ask("GET", "/v6/supervisor_release?$select=image_name")[2]), {"d": [{"image_name": "registry/agent"}]})

    def test_a_variant_that_is_none_of_two_is_not_kept_and_a_body_above_512_kib_is_refused(self):
        body = {"application": self.fleet.id, "uuid": "ef" * 16, "device_type": "x", "api_key": "k" * 32, "os_variant": "other"}
        self.assertEqual(self.ask("POST", "/device/register", body, key="provisioning")[0], 201)
        self.assertNotIn("os_variant", self.cloud.devices["ef" * 16].registration)
        self.assertEqual(self.report(status="x" * (513 << 10)), 413)


if __name__ == "__main__":
    unittest.main()
