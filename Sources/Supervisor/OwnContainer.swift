import Engine
import Glibc
import HostConfiguration
import JSON
import StateEngine

/// The container that the agent itself runs in, or that an agent before it ran in (cloud 8.1, 4.2).
enum OwnContainer {
  /// Names that launchers give it, today's first.
  private static let names = ["balena_supervisor", "resin_supervisor"]

  /// All that there are, inspected: the one of `SUPERVISOR_CONTAINER_ID`, the one that the system says, and
  /// those with the names.
  static func inspect(_ engine: EngineClient) async throws(EngineError) -> [JSON] {
    var found: [String: JSON] = [:]
    for name in [given ?? "", mounted() ?? ""] + names where !name.isEmpty {
      let container: JSON
      do throws(EngineError) { container = try await engine.inspectContainer(name) } catch {
        if error.kind == .status(404) { continue }
        throw error
      }
      if let id = container["Id"]?.stringValue { found[id] = container }
    }
    return found.keys.sorted().compactMap { found[$0] }
  }

  /// When the last of them ended, in microseconds since 1970; nil when that is not known.
  static func end(_ engine: EngineClient) async -> UInt64? {
    guard let containers = try? await inspect(engine) else { return nil }
    return containers.compactMap { container -> UInt64? in
      guard let text = container["State"]?["FinishedAt"]?.stringValue, let end = Timestamp(text),
        end.seconds > 0
      else { return nil }
      return UInt64(end.seconds) * 1_000_000 + UInt64(end.nanoseconds / 1000)
    }.max()
  }

  /// Full id of the container that this process runs in; nil outside of one.
  static var id: String? {
    mounted() ?? given.flatMap { $0.utf8.count == 64 && $0.allSatisfy(\.isHexDigit) ? $0 : nil }
  }

  private static var given: String? { getenv("SUPERVISOR_CONTAINER_ID").map { String(cString: $0) } }

  private static func mounted() -> String? {
    guard let text = try? DurableFile.read("/proc/self/mountinfo") else { return nil }
    return id(inMounts: String(decoding: text, as: UTF8.self))
  }

  /// The id in the files that the engine mounts into each container, `…/containers/<id>/hostname` on
  /// `/etc/hostname` (proc(5), mountinfo). nil outside of a container.
  nonisolated static func id(inMounts text: String) -> String? {
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count > 4, fields[4] == "/etc/hostname" else { continue }
      let path = fields[3].split(separator: "/")
      guard path.count >= 3, path[path.count - 1] == "hostname", path[path.count - 3] == "containers"
      else { continue }
      let id = path[path.count - 2]
      if id.utf8.count == 64, id.allSatisfy(\.isHexDigit) { return String(id) }
    }
    return nil
  }
}
