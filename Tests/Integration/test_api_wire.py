"""The answers of the HTTP API over a live socket, against the same tables as the tests in process."""

from api import MANAGED, add_key, bearer, check_case, database, global_key, load, set_local_mode
from harness import DeviceTest

KEYS = {"none": None, "wrong": "0123456789abcdef", "other": "6c1f0b8e47a93d25",
        "app": "d9073ea64b5c218f"}


class Wire(DeviceTest):
    def test_every_answer_of_the_table_is_as_it_stands_there(self):
        agent = self.agent()
        for case in load("wire.json"):
            with self.subTest(case["name"]):
                check_case(self, agent, case)

    def test_every_route_lets_in_whom_the_table_says(self):
        agent = self.agent(config=MANAGED)
        agent.kill()
        add_key(agent, 1, KEYS["app"])
        add_key(agent, 2, KEYS["other"])
        secret = global_key(agent)
        self.assertRegex(secret, r"\A[0-9a-f]{64}\Z")
        for local in (False, True):
            set_local_mode(agent, local)
            for name, key in {**KEYS, "global": secret}.items():
                agent.start()
                self.walk(agent, name, key, local)
                agent.kill()
                secret = global_key(agent)
                database(agent, "DELETE FROM api_key WHERE app_id <> 0")
                add_key(agent, 1, KEYS["app"])
                add_key(agent, 2, KEYS["other"])

    def walk(self, agent, name, key, local):
        valid = name not in ("none", "wrong")
        for row in load("routes.json"):
            with self.subTest(f"{row['method']} {row['path']}", key=name, local=local):
                headers = {**bearer(key), "Content-Type": "application/json"}
                answer = agent.request(
                    row.get("callMethod", row["method"]), row.get("call", row["path"]), row.get("body"), headers)
                if row["scope"] == "open":
                    expected = row.get("allowed") or row.get("live")
                elif not local and not valid:
                    expected = [401, "text/plain; charset=utf-8", "Unauthorized"]
                elif row["scope"] == "own":
                    self.assertEqual(answer.status, 200 if valid else 503)
                    if valid:
                        self.assertRegex(answer.text, r"\A[0-9a-f]{64}\Z")
                        key = answer.text
                    continue
                elif not local and name == "other" and "denied" in row:
                    expected = row["denied"]
                else:
                    expected = row.get("allowedInLocalMode") if local else None
                    # `live`: of a device without apps, whose engine is there.
                    expected = expected or row.get("allowed") or row.get("live")
                    self.assertNotEqual(answer.status, 401)
                if expected:
                    status, kind, body = expected
                    self.assertEqual(answer.status, status, answer.text[:200])
                    self.assertEqual(answer.headers.get("Content-Type"), kind)
                    if body is not None and row.get("callMethod") != "HEAD":
                        self.assertEqual(answer.text, body)

    def test_a_key_in_the_query_rules_even_when_it_is_wrong(self):
        agent = self.agent(config=MANAGED)
        key = global_key(agent)
        path = "/v2/version"
        for query, header, status in (
            (f"?apikey={key}", None, 200),
            (f"?a=b&apikey={key}&c", None, 200),
            ("?apikey=%s" % "".join(f"%{ord(c):02x}" for c in key), None, 200),
            (f"?APIKEY={key}", None, 401),
            ("?apikey=wrong", f"Bearer {key}", 401),
            ("?apikey=", f"Bearer {key}", 200),
            ("?apikey", f"Bearer {key}", 200),
            ("?apikey=a&apikey=b", f"Bearer {key}", 200),
            ("?apikey[]=a", f"Bearer {key}", 200),
            ("", f"apiKEY {key}", 200),
            ("", f"Bearer  {key}", 401),
            ("", f"Bearer {key}.", 401),
            ("", f"Bearer {key[:-1]}", 401),
            ("", f"Basic {key}", 401),
            ("", key, 401),
        ):
            with self.subTest(query=query, header=header):
                headers = {"Authorization": header} if header else {}
                self.assertEqual(agent.request("GET", path + query, headers=headers).status, status)
        self.assertEqual(agent.request("POST", path, '{"apikey":"%s"}' % key,
                                       {"Content-Type": "application/json"}).status, 401)

    def test_a_replaced_key_is_refused_at_once_and_never_stands_in_the_log(self):
        agent = self.agent(config=MANAGED)
        old = global_key(agent)
        new = agent.request("POST", f"/v1/regenerate-api-key?apikey={old}").text
        self.assertEqual(agent.request("GET", f"/v2/version?apikey={old}").status, 401)
        self.assertEqual(agent.request("GET", "/v2/version", headers=bearer(new)).status, 200)
        agent.request("POST", f"/v1/update?apikey={new}")
        self.assertEqual(global_key(agent), new)
        log = agent.log
        self.assertIn("POST /v1/update 204", log)
        self.assertNotIn(old, log)
        self.assertNotIn(new, log)
        self.assertNotIn("apikey", log)
