import Glibc
import JSON
import Testing

@testable import Model

/// The device, app and image of the specification's worked examples (target-state 9).
nonisolated enum Fixture {
  static let appUuid = "a1b2c3d4e5f60718293a4b5c6d7e8f90"

  static let image = ImageInfo(
    id: "sha256:aaaa", cmd: ["node", "app.js"], env: ["PATH=/usr/bin:/bin"],
    labels: ["io.balena.architecture": "aarch64"], workingDir: "/usr/src/app/", volumes: ["/cache"])

  static let context = MappingContext(
    deviceUuid: "0123456789abcdef0123456789abcdef", deviceType: "raspberrypi4-64", deviceArch: "aarch64",
    osVersion: "balenaOS 6.1.2", hostName: "0123456", supervisorHost: "10.114.104.1",
    apiEndpoint: "https://api.balena-cloud.com", deviceApiKey: "device-key",
    supervisorApiKeys: [.init(appId: 1_234_567, serviceName: "web"): "secret"], hasHostFirmware: true,
    hasHostModules: true, boardRev: "r1")

  /// An image that lends a container the same values.
  private static func other(than image: ImageInfo) -> ImageInfo {
    var other = image
    other.id = "sha256:other"
    return other
  }

  /// Maps service `web`, described by the members `composition`, `environment`, `labels`, `appName`,
  /// `osVersion`, `release`, `imageId` and `commit` of a test case.
  static func service(
    _ description: JSON, image: ImageInfo? = image
  ) throws(ModelError) -> (service: Service, notes: [String]) {
    var context = context
    if let version = description["osVersion"]?.stringValue { context.osVersion = version }
    let target = TargetService(
      name: "web", serviceId: 77, imageId: description["imageId"]?.intValue ?? 88, image: "web",
      environment: description["environment"]?.stringMap ?? [:],
      labels: description["labels"]?.stringMap ?? [:],
      composition: description["composition"]?.objectValue ?? [:])
    let release = TargetRelease(
      commit: description["commit"]?.stringValue ?? "c0ffee01", id: description["release"]?.intValue ?? 99,
      services: [target])
    let app = TargetApp(
      appId: 1_234_567, uuid: appUuid, name: description["appName"]?.stringValue ?? "acme", source: "local",
      release: release)
    let (mapped, notes) = try App.target(
      from: app, context: context,
      images: image.map { ["web:latest": $0, "other:1": other(than: $0)] } ?? [:])
    return (mapped.services[0], notes)
  }

  /// A file of `Golden`; `A_` in it stands for the app's uuid.
  static func golden(_ name: String) throws -> JSON {
    let file = try #require(fopen(path(of: name), "r"))
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    let parsed = try JSON(parsing: bytes)
    let text = parsed.serialized().split(separator: "\"A_", omittingEmptySubsequences: false)
      .joined(separator: "\"\(appUuid)_")
    return try JSON(parsing: text)
  }

  /// The cases of every file of a folder of `Golden`, each with its file's name.
  static func goldenFolder(_ folder: String) -> [GoldenCase] {
    folderNames(folder).flatMap { name in
      goldenCases("\(folder)/\(name).json").map { GoldenCase(json: $0.json, file: name) }
    }
  }

  /// The names of a folder's files, without `.json`.
  static func folderNames(_ folder: String) -> [String] {
    guard let directory = opendir(path(of: folder)) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasSuffix(".json") { names.append(String(name.dropLast(5))) }
    }
    return names.sorted()
  }

  private static func path(of name: String) -> String {
    let here = #filePath
    return String(here.prefix(upTo: here.lastIndex(of: "/") ?? here.endIndex)) + "/Golden/" + name
  }

  static func goldenCases(_ name: String) -> [GoldenCase] {
    guard let cases = try? golden(name).arrayValue else { return [] }
    return cases.map { GoldenCase(json: $0) }
  }
}

nonisolated struct GoldenCase: Sendable, CustomTestStringConvertible {
  let json: JSON
  var file = ""
  var testDescription: String { (file.isEmpty ? "" : file + ": ") + (json["about"]?.stringValue ?? "") }
}
