import Database

func app(_ uuid: String, id: Int = 1, source: String = "local", appClass: String = "fleet") -> StoredApp {
  StoredApp(
    uuid: uuid, source: source, appId: id, name: "app \(uuid)", appClass: appClass, releaseId: 7,
    commit: "c0ffee", services: #"[{"serviceName":"web"}]"#, networks: #"{"b":{},"a":{}}"#, volumes: "{}")
}

func image(_ name: String, engineId: String? = nil, commit: String = "c0ffee") -> StoredImage {
  StoredImage(
    name: name, appId: 1, appUuid: "u", serviceId: 2, serviceName: "web", imageId: 3, releaseId: 4,
    commit: commit, engineId: engineId)
}
