import JSON

/// What an image lends a container that does not say it itself (target-state 3.10).
public nonisolated struct ImageInfo: Sendable, Hashable {
  /// The engine's id, `sha256:…`.
  public var id: String
  public var cmd: [String]
  public var entrypoint: [String]
  /// `NAME=value`, as the image spells it.
  public var env: [String]
  public var labels: [String: String]
  public var workingDir: String
  public var user: String
  /// Paths in the container.
  public var volumes: [String]
  public var stopSignal: String
  /// nil when the image has none; the test may be empty.
  public var healthcheck: Healthcheck?

  public init(
    id: String, cmd: [String] = [], entrypoint: [String] = [], env: [String] = [],
    labels: [String: String] = [:], workingDir: String = "", user: String = "", volumes: [String] = [],
    stopSignal: String = "", healthcheck: Healthcheck? = nil
  ) {
    self.id = id
    self.cmd = cmd
    self.entrypoint = entrypoint
    self.env = env
    self.labels = labels
    self.workingDir = workingDir
    self.user = user
    self.volumes = volumes
    self.stopSignal = stopSignal
    self.healthcheck = healthcheck
  }

  /// - Parameter inspect: the answer of `GET /images/<name>/json`.
  public init(inspecting inspect: JSON) {
    let settings = inspect["Config"]?.objectValue ?? [:]
    var healthcheck: Healthcheck?
    if let value = settings["Healthcheck"], value.objectValue != nil {
      func number(_ key: String) -> Int? { value[key]?.intValue.flatMap { $0 == 0 ? nil : $0 } }
      healthcheck = Healthcheck(
        test: value["Test"]?.stringList ?? [], interval: number("Interval"), timeout: number("Timeout"),
        startPeriod: number("StartPeriod"), retries: number("Retries"))
    }
    self.init(
      id: inspect["Id"]?.stringValue ?? "",
      cmd: settings["Cmd"]?.stringList ?? [], entrypoint: settings["Entrypoint"]?.stringList ?? [],
      env: settings["Env"]?.stringList ?? [], labels: settings["Labels"]?.stringMap ?? [:],
      workingDir: settings["WorkingDir"]?.stringValue ?? "", user: settings["User"]?.stringValue ?? "",
      volumes: (settings["Volumes"]?.objectValue?.keys ?? []).sorted(),
      stopSignal: settings["StopSignal"]?.stringValue ?? "", healthcheck: healthcheck)
  }
}
