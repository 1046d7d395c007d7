"""A target that breaks a rule is refused with the places of all errors, and what was in force stays in force."""

import copy

from harness import DeviceTest, app, service, wait_until

TARGET = "/v2/local/target-state"
UUID = "f00dfeedf00dfeedf00dfeedf00dfeed"
NUMBER = "must be be an positive integer"
VARIABLE = "needs to start with a letter and may only contain alphanumeric characters plus '_'"
LABEL = "may contain printable ASCII characters except space, single/double quotes and backtick"
NAME = 'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed'
LONG = "x" * 256
MISSING = object()
RELEASE = f"{UUID}.apps.1.releases.bbbb"
WEB = f"{RELEASE}.services.web"

# A change of a good document, by path below `local`, and the lines that answer it.
CASES = [
    ("name", 5, [f"Expecting DeviceName at {UUID}.name but instead got: 5"]),
    ("name", "a\nb", [
        f'Expecting DeviceName at {UUID}.name but instead got: "a\\nb" (must not contain newline chars)']),
    ("config", [], [f"Expecting object at {UUID}.config but instead got: []"]),
    ("config.A", 1, [f"Expecting string at {UUID}.config.A but instead got: 1"]),
    ("config.1A", "", [
        f'Expecting ConfigVarName at {UUID}.config.1A but instead got: "1A" ({VARIABLE} or \':\')']),
    ("apps", 5, ["Expecting object at local.apps but instead got: 5"]),
    ("apps.x", {}, ['Expecting NumericId at local.apps.x but instead got: "x"']),
    ("apps.1", None, ["Expecting object at local.apps.1 but instead got: null"]),
    ("apps.1.name", MISSING, [f"Expecting ShortString at {UUID}.apps.1.name but instead got: undefined"]),
    ("apps.1.name", LONG, [
        f'Expecting ShortString at {UUID}.apps.1.name but instead got: "{LONG[:199]}… '
        "(must be at most 255 chars long)"]),
    ("apps.1.releaseId", "1e3", [f'Expecting NumericId at {RELEASE}.id but instead got: "1e3" ({NUMBER})']),
    ("apps.1.releaseId", MISSING, [f"Expecting NumericId at {RELEASE}.id but instead got: null ({NUMBER})"]),
    ("apps.1.volumes", [], ["Expecting object at local.apps.1.volumes but instead got: []"]),
    ("apps.1.volumes.data", None, [f"Expecting object at {RELEASE}.volumes.data but instead got: null"]),
    ("apps.1.networks.back", "x", [f'Expecting object at {RELEASE}.networks.back but instead got: "x"']),
    ("apps.1.networks._b", {}, [f'Expecting DockerName at {RELEASE}.networks._b but instead got: "_b" ({NAME})']),
    ("apps.1.services.1", None, ["Expecting object at local.apps.1.services.1 but instead got: null"]),
    ("apps.1.services.1.serviceName", MISSING, [
        "Expecting string at local.apps.1.services.1.serviceName but instead got: undefined"]),
    ("apps.1.services.1.serviceName", "a b", [
        f'Expecting DockerName at {RELEASE}.services.a b but instead got: "a b" ({NAME})']),
    ("apps.1.services.1.imageId", 1.5, [f"Expecting NumericId at {WEB}.image_id but instead got: 1.5 ({NUMBER})"]),
    ("apps.1.services.1.imageId", -1, [f"Expecting NumericId at {WEB}.image_id but instead got: -1 ({NUMBER})"]),
    ("apps.1.services.1.imageId", True, [f"Expecting NumericId at {WEB}.image_id but instead got: true ({NUMBER})"]),
    ("apps.1.services.1.image", 5, [f"Expecting ShortString at {WEB}.image but instead got: 5"]),
    ("apps.1.services.1.environment", MISSING, [
        f"Expecting object at {WEB}.environment but instead got: undefined"]),
    ("apps.1.services.1.environment.A", True, [f"Expecting string at {WEB}.environment.A but instead got: true"]),
    ("apps.1.services.1.environment.A-B", "secret", [
        f'Expecting EnvVarName at {WEB}.environment.A-B but instead got: "A-B" ({VARIABLE})']),
    # Values of variables are no matter for a log, whatever they are.
    ("apps.1.services.1.environment.A", ["secret"], [
        f"Expecting string at {WEB}.environment.A but instead got: hidden"]),
    ("apps.1.services.1.labels", None, [f"Expecting object at {WEB}.labels but instead got: null"]),
    ("apps.1.services.1.labels.a b", "", [
        f'Expecting LabelName at {WEB}.labels.a b but instead got: "a b" ({LABEL})']),
    ("apps.1.services.1.labels.a", 1, [f"Expecting string at {WEB}.labels.a but instead got: 1"]),
    ("apps.1.services.1.running", "yes", [f'Expecting boolean at {WEB}.running but instead got: "yes"']),
    ("apps.1.services.1.contract", 5, [f"Expecting object at {WEB}.contract but instead got: 5"]),
    ("apps.1.services.1.contract", None, [f"Expecting object at {WEB}.contract but instead got: null"]),
    ("apps.1.services.1.depends_on", {"x": {"condition": "healthy"}}, [
        f"Expecting service_started | service_healthy | service_completed_successfully at "
        f'{WEB}.composition.depends_on.x.condition but instead got: "healthy"']),
    ("apps.1.services.1.depends_on", ["web"], [
        f"Expecting services that do not wait for each other at {RELEASE}.services but instead got: web -> web"]),
    ("apps.1.services.1.depends_on", ["db"], [
        f"Expecting services that do not wait for each other at {RELEASE}.services "
        "but instead got: web -> db -> cache -> web"]),
]


def changed(document, path, value):
    document = copy.deepcopy(document)
    keys = path.split(".")
    place = document["local"]
    for key in keys[:-1]:
        place = place[key]
    if value is MISSING:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return document


class Rejections(DeviceTest):
    def setUp(self):
        super().setUp()
        self.device = self.agent(config=f'{{"uuid": "{UUID}"}}')
        self.device.post_target(app(service("web"), volumes={"data": {}}))
        self.before = self.wait_for_services(self.device, "web")["web"]
        self.target = self.device.get(TARGET).json
        # Everything in it differs from what runs.
        new = app(
            service("web", number=2, environment={"NEW": "1"}),
            service("db", number=3, network_mode="service:cache"),
            service("cache", number=4, depends_on={"web": {"condition": "service_started"}}),
            commit="bbbb", release_id=2, volumes={"data": {}, "new": {}}, networks={"new": {}})
        self.good = {"local": {"name": "after", "config": {}, "apps": new}, "force": False}

    def assert_nothing_applied(self):
        self.assertEqual(self.device.get(TARGET).json, self.target)
        containers = self.engine.service_containers(1)
        self.assertEqual(list(containers), ["web"])
        self.assertEqual(containers["web"]["Id"], self.before["Id"])
        self.assertEqual(containers["web"]["State"], self.before["State"])
        self.assertNotIn("1_new", [network["Name"] for network in self.engine.get("/networks")])

    def test_each_broken_rule_is_answered_with_its_place_and_nothing_is_applied(self):
        for path, value, lines in CASES:
            with self.subTest(path=path, value=value):
                document = changed(self.good, path, value)
                log = len(self.device.log)
                answer = self.device.request("POST", TARGET, document)
                message = "\n".join(["Invalid target state.", *lines])
                self.assertEqual((answer.status, answer.json), (400, {"status": "failed", "message": message}))
                # The user is told line by line, the operator in one.
                told = self.device.log[log:]
                self.assertIn("Could not move to new release: Invalid target state.\n", told)
                for line in lines:
                    self.assertIn(f"]   {line}\n", told)
                self.assertIn("Could not store target state for device: Invalid target state.", told)
                self.assertNotIn("secret", told)
                self.assertEqual(self.device.get(TARGET).json, self.target)
        self.assert_nothing_applied()
        # The device goes on with the next good one.
        good = changed(self.good, "apps.1.services.2.network_mode", "host")
        self.assertEqual(self.device.request("POST", TARGET, good).status, 200)
        self.wait_for_services(self.device, "web", "db", "cache")

    def test_all_errors_of_a_document_are_told_at_once(self):
        document = changed(self.good, "config.A", 1)
        document = changed(document, "apps.1.services.1.imageId", "x")
        document = changed(document, "apps.1.services.2.labels", [])
        answer = self.device.request("POST", TARGET, document)
        self.assertEqual(answer.status, 400)
        self.assertEqual(answer.json["message"].split("\n"), [
            "Invalid target state.",
            f"Expecting string at {UUID}.config.A but instead got: 1",
            f'Expecting NumericId at {WEB}.image_id but instead got: "x" ({NUMBER})',
            f"Expecting object at {RELEASE}.services.db.labels but instead got: []",
        ])
        self.assert_nothing_applied()

    def test_a_release_that_cannot_be_mapped_leaves_the_running_one_alone_and_says_why(self):
        for key, value, message in [
            ("ports", ["80:90-91"],
             "Range for internal and external ports does not match: 80:90-91 (ports of service web)"),
            ("ports", ["80/sctp"], "Could not parse port definition: 80/sctp (ports of service web)"),
            ("stop_grace_period", "soon", "invalid duration (stopGracePeriod of service web)"),
            ("healthcheck", {"test": "x", "interval": "1y"},
             "invalid unit: y (healthcheck.interval of service web)"),
            ("devices", [5], "Could not parse device definition: 5 (devices of service web)"),
            ("volumes", "data:/data",
             'Could not parse volumes: expected a list, got: "data:/data" (volumes of service web)'),
        ]:
            with self.subTest(key=key, value=value):
                log = len(self.device.log)
                # Values of a composition are no rule of the document: it is taken, and nothing is done.
                answer = self.device.post_target(
                    app(service("web", number=2, **{key: value}), commit="bbbb", release_id=2, volumes={"data": {}})
                    | app(app_id=2, commit="cccc", release_id=3))
                self.assertEqual(answer.status, 200, answer.text)
                told = f"Could not move to new release: app app1: {message}\n"
                wait_until(lambda: told in self.device.log[log:], "the log says why")
                wait_until(lambda: self.waiting() == [f"a release that can be applied: {message}"], "it is explained")
                wait_until(lambda: self.device.status()["appState"] == "applied", "nothing is left to do")
                self.assertEqual(self.device.get("/v2/applications/state").json["app1"]["updateStatus"], "rejected")
                containers = self.engine.service_containers(1)
                self.assertEqual(containers["web"]["Id"], self.before["Id"])
                self.assertEqual(containers["web"]["State"], self.before["State"])
                self.assertEqual(self.engine.request("GET", "/volumes/1_data").status, 200)
        self.device.post_target(app(service("web", number=2), commit="dddd", release_id=4))
        self.assertEqual(self.wait_for_services(self.device, "web")["web"]["Id"], self.before["Id"])

    def waiting(self):
        apps = self.device.get("/v2/explain").json["apps"]
        return [entry["for"] for app in apps if app["appId"] == 1 for entry in app["waiting"]]
