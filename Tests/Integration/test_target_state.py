"""A posted target state becomes containers, networks and volumes."""

import http.client
import json

from harness import IMAGE, OTHER_IMAGE, DeviceTest, app, service, wait_until


class TargetState(DeviceTest):
    def test_two_services_become_containers_with_exact_names_labels_and_environment(self):
        agent = self.agent()
        target = app(
            service("one", number=11, environment={"COLOUR": "green"}, labels={"my.label": "x"}),
            service("two", number=12, depends_on=["one"]),
            app_id=7, commit="abc123", release_id=99)
        answer = agent.post_target(target)
        self.assertEqual((answer.status, answer.json), (200, {"status": "success", "message": "OK"}))
        containers = self.wait_for_services(agent, "one", "two", app_id=7)

        one = containers["one"]
        self.assertEqual(one["Name"], "/one_11_99_abc123")
        self.assertEqual(containers["two"]["Name"], "/two_12_99_abc123")
        self.assertEqual(one["Config"]["Labels"], {
            "io.balena.supervised": "true", "io.balena.app-id": "7", "io.balena.app-uuid": "7",
            "io.balena.service-id": "1", "io.balena.service-name": "one", "my.label": "x"})
        environment = dict(entry.split("=", 1) for entry in one["Config"]["Env"])
        expected = {"COLOUR": "green", "BALENA": "1", "RESIN": "1", "USER": "root",
                    "BALENA_HOST_OS_VERSION": "Test OS 1.0",
                    "BALENA_SERVICE_HANDOVER_COMPLETE_PATH": "/tmp/balena/handover-complete",
                    "RESIN_SERVICE_KILL_ME_PATH": "/tmp/balena/handover-complete"}
        for prefix in ("BALENA", "RESIN"):
            expected |= {f"{prefix}_APP_ID": "7", f"{prefix}_APP_UUID": "7", f"{prefix}_APP_NAME": "app7",
                         f"{prefix}_SERVICE_NAME": "one",
                         f"{prefix}_APP_LOCK_PATH": "/tmp/balena/updates.lock"}
        self.assertEqual({name: environment.get(name) for name in expected}, expected)
        self.assertEqual(one["HostConfig"]["RestartPolicy"]["Name"], "always")
        self.assertEqual(sorted(one["HostConfig"]["Binds"]), [
            "/tmp/balena-supervisor/services/7/one:/tmp/balena",
            "/tmp/balena-supervisor/services/7/one:/tmp/resin"])
        self.assertEqual(list(one["NetworkSettings"]["Networks"]), ["7_default"])

    def test_networks_and_volumes_of_the_release_are_made_with_its_names(self):
        agent = self.agent()
        agent.post_target(app(
            service("one", volumes=["store:/store"], networks=["inside"]),
            volumes={"store": {}}, networks={"inside": {}}))
        one = self.wait_for_services(agent, "one")["one"]
        self.assertEqual(list(one["NetworkSettings"]["Networks"]), ["1_inside"])
        self.assertIn("1_store:/store", one["HostConfig"]["Binds"])
        self.assertEqual(self.engine.get("/volumes/1_store")["Labels"]["io.balena.supervised"], "true")
        self.assertEqual(self.engine.get("/networks/1_inside")["Labels"], {
            "io.balena.supervised": "true", "io.balena.app-id": "1"})

    def test_a_second_post_changes_only_what_differs(self):
        agent = self.agent()
        agent.post_target(app(service("one"), service("two", number=2)))
        before = self.wait_for_services(agent, "one", "two")
        agent.post_target(app(service("one"), service("two", number=2, environment={"NEW": "1"})))
        wait_until(
            lambda: "NEW=1" in (self.engine.service_containers(1).get("two") or before["two"])["Config"]["Env"],
            "the second service has its new variable")
        after = self.wait_for_services(agent, "one", "two")
        self.assertEqual(after["one"]["Id"], before["one"]["Id"])
        self.assertEqual(after["one"]["State"]["StartedAt"], before["one"]["State"]["StartedAt"])
        self.assertNotEqual(after["two"]["Id"], before["two"]["Id"])

    def test_the_same_post_again_changes_nothing(self):
        agent = self.agent()
        target = app(service("one"), service("two", number=2))
        agent.post_target(target)
        before = self.wait_for_services(agent, "one", "two")
        agent.post_target(target)
        after = self.wait_for_services(agent, "one", "two")
        for name in before:
            self.assertEqual(after[name]["Id"], before[name]["Id"])
            self.assertEqual(after[name]["State"]["StartedAt"], before[name]["State"]["StartedAt"])

    def test_a_new_release_of_the_same_services_only_renames_their_containers(self):
        agent = self.agent()
        agent.post_target(app(service("one", number=1), commit="aaaa", release_id=1))
        before = self.wait_for_services(agent, "one")
        agent.post_target(app(service("one", number=2), commit="bbbb", release_id=2))
        wait_until(
            lambda: self.engine.service_containers(1)["one"]["Name"] == "/one_2_2_bbbb", "the container is renamed")
        after = self.wait_for_services(agent, "one")
        self.assertEqual(after["one"]["Id"], before["one"]["Id"])

    def test_another_image_makes_a_new_container_of_that_image(self):
        agent = self.agent()
        agent.post_target(app(service("one")))
        before = self.wait_for_services(agent, "one")["one"]
        image = self.engine.get(f"/images/{OTHER_IMAGE}/json")["Id"]
        agent.post_target(app(service("one", image=OTHER_IMAGE, number=2), commit="bbbb", release_id=2))
        wait_until(
            lambda: self.engine.service_containers(1).get("one", before)["Image"] == image, "the other image runs")
        self.assertNotEqual(self.wait_for_services(agent, "one")["one"]["Id"], before["Id"])

    def test_a_removed_service_goes_and_the_other_stays(self):
        agent = self.agent()
        agent.post_target(app(service("one"), service("two", number=2)))
        before = self.wait_for_services(agent, "one", "two")
        agent.post_target(app(service("one")))
        wait_until(lambda: len(self.engine.service_containers(1)) == 1, "the second service is gone")
        self.assertEqual(self.wait_for_services(agent, "one")["one"]["Id"], before["one"]["Id"])

    def test_a_body_without_local_removes_all_apps_and_keeps_nothing_of_them(self):
        agent = self.agent()
        agent.post_target(app(service("one", volumes=["store:/store"]), volumes={"store": {}}))
        self.wait_for_services(agent, "one")
        answer = agent.request("POST", "/v2/local/target-state", {})
        self.assertEqual(answer.status, 200)
        self.wait_for_services(agent)
        wait_until(
            lambda: "1_default" not in [network["Name"] for network in self.engine.get("/networks")],
            "the app's network is gone")

    def test_a_service_that_is_not_to_run_is_made_but_not_started(self):
        agent = self.agent()
        agent.post_target(app(service("one", running=False), service("two", number=2)))
        wait_until(lambda: len(self.engine.service_containers(1)) == 2, "both containers exist")
        wait_until(lambda: agent.status()["appState"] == "applied", "the target is applied")
        containers = self.engine.service_containers(1)
        self.assertEqual(
            {name: container["State"]["Running"] for name, container in containers.items()},
            {"one": False, "two": True})

    def test_what_was_posted_can_be_read_and_posted_back(self):
        agent = self.agent()
        agent.post_target(app(service("one")))
        before = self.wait_for_services(agent, "one")
        document = agent.get("/v2/local/target-state").json
        self.assertEqual(document["status"], "success")
        state = document["state"]
        self.assertIn("name", state["local"])
        self.assertIn("config", state["local"])
        self.assertEqual(list(state["local"]["apps"]), ["1"])
        state["local"]["apps"] = app(service("one"))
        self.assertEqual(agent.request("POST", "/v2/local/target-state", state).status, 200)
        self.assertEqual(self.wait_for_services(agent, "one")["one"]["Id"], before["one"]["Id"])

    def test_the_state_endpoints_tell_of_the_running_release(self):
        agent = self.agent()
        agent.post_target(app(service("one", number=5), commit="abc123", release_id=99))
        container = self.wait_for_services(agent, "one")["one"]
        status = agent.status()
        self.assertEqual(status["release"], "abc123")
        row = status["containers"][0]
        self.assertEqual(
            {name: row[name] for name in ("status", "serviceName", "appId", "imageId", "serviceId", "containerId")},
            {"status": "Running", "serviceName": "one", "appId": 1, "imageId": 5, "serviceId": 1,
             "containerId": container["Id"]})
        self.assertEqual(agent.get("/v2/applications/1/state").json, {
            "commit": "abc123",
            "local": {"1": {"services": {
                "5": {"status": "Running", "releaseId": 99, "download_progress": None}}}}})
        self.assertEqual(agent.get("/v2/applications/state").json, {"app1": {
            "appId": 1, "appUuid": "1", "commit": "abc123", "updateStatus": "done", "services": {
                "one": {"status": "Running", "image": IMAGE, "releaseId": 99, "downloadProgress": None}}}})
        self.assertEqual(agent.get("/v2/containerId").json, {
            "status": "success", "services": {"one": container["Id"]}})
        self.assertEqual(agent.get("/v2/containerId?service=one").json["containerId"], container["Id"])

    def test_many_posts_in_a_row_end_in_the_last(self):
        agent = self.agent()
        connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=30)
        for number in range(20):
            target = app(service("one", environment={"NUMBER": str(number)}))
            connection.request(
                "POST", "/v2/local/target-state", json.dumps({"local": {"apps": target}}),
                {"Content-Type": "application/json"})
            self.assertEqual(connection.getresponse().read(), b'{"status":"success","message":"OK"}')
        connection.close()

        def latest():
            containers = self.engine.service_containers(1)
            return "one" in containers and "NUMBER=19" in containers["one"]["Config"]["Env"]

        wait_until(latest, "the last target runs")
        self.wait_for_services(agent, "one")
