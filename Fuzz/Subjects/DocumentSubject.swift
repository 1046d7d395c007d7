import JSON
import Model

nonisolated extension Subject {
  private static let deviceUuid = "d0"

  /// A document, of version 3 or of local mode, is read or refused with a message; what was read is mapped
  /// to containers twice with one result, and survives the way into the store and back.
  public static let document = Subject(name: "document") { bytes in
    guard let json = try? JSON(parsing: bytes) else { return }
    read(v3: json)
    do throws(TargetStateError) {
      let converted = try TargetStateDocument.convertV2(json, deviceUuid: deviceUuid, deviceName: "local")
      read(v3: converted)
    } catch {
      precondition(!error.message.isEmpty, "refused without a word")
    }
  }

  private static func read(v3 json: JSON) {
    let state: TargetState
    do throws(TargetStateError) {
      state = try TargetStateDocument.parse(v3: json, deviceUuid: deviceUuid, source: "local")
    } catch {
      precondition(!error.message.isEmpty, "refused without a word")
      return
    }
    let context = MappingContext(
      deviceUuid: deviceUuid, osVersion: "balenaOS 6.1.2", hostName: "d0", hasHostFirmware: true,
      hasHostModules: true)
    for app in state.apps {
      for images in [[:], images(of: app)] {
        do throws(ModelError) {
          let (mapped, _) = try App.target(from: app, context: context, images: images)
          let (again, _) = try App.target(from: app, context: context, images: images)
          precondition(mapped == again, "two mappings of one target differ")
          for service in mapped.services {
            _ = try? service.createRequest(containerIds: [:], deviceName: "local")
          }
        } catch {
          precondition(!error.message.isEmpty, "refused without a word")
        }
      }
    }
  }

  private static func images(of app: TargetApp) -> [String: ImageInfo] {
    let info = ImageInfo(
      id: "sha256:aaaa", cmd: ["node", "app.js"], env: ["PATH=/usr/bin:/bin", "ODD"],
      labels: ["io.resin.features.dbus": "1"], workingDir: "/usr/src/app/", volumes: ["/cache"])
    let names = app.release?.services.map(\.image) ?? []
    return Dictionary(names.map { ($0, info) }, uniquingKeysWith: { first, _ in first })
  }
}
