import EventLoop

/// Modules of the running kernel, which are the host's (modprobe(8)).
nonisolated enum KernelModule {
  static let modprobe = "/sbin/modprobe"
  private static let timeout = Duration.seconds(20)

  /// Arguments of modprobe; a container has no modules of its own.
  static func arguments(_ name: String, hostRoot: String) -> [String] {
    hostRoot == "/" ? [name] : ["-d", hostRoot, name]
  }

  /// Loads a module unless it is loaded already.
  @MainActor static func load(
    _ name: String, hostRoot: String, modprobe: String = KernelModule.modprobe
  ) async throws(SystemError) -> ChildProcess.Outcome {
    try await ChildProcess.run(modprobe, arguments(name, hostRoot: hostRoot), timeout: timeout)
  }
}
