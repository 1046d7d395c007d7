import JSON

/// Reads target state documents of the wire (target-state 1).
///
/// A document is read whole and every error in it is collected; one error, anywhere in it, and none
/// of it counts. Keys that are not known are allowed at every level; those of a service are kept.
public nonisolated enum TargetStateDocument {
  /// Reads a version 3 document.
  ///
  /// - Parameters:
  ///   - source: where the document came from: `local`, or the API endpoint.
  /// - Throws: `.invalid` when the document breaks a rule, `.failed` when it has no entry for this
  ///   device or an image has no valid name.
  public static func parse(
    v3 document: JSON, deviceUuid: String, source: String
  ) throws(TargetStateError) -> TargetState {
    var validator = DocumentValidator()
    let devices = validator.devices(document, source: source)
    guard validator.errors.isEmpty else {
      throw TargetStateError(
        .invalid, (["Invalid target state."] + validator.errors).joined(separator: "\n"))
    }
    guard !deviceUuid.isEmpty, var state = devices[deviceUuid] else {
      throw TargetStateError(
        .failed, "Expected target state for local device with uuid '\(deviceUuid)'.")
    }
    try state.normalizeImages()
    return state
  }
}

nonisolated extension TargetState {
  /// Brings the image names of all services to their one form (target-state 4.6).
  mutating func normalizeImages() throws(TargetStateError) {
    for app in apps.indices {
      for service in apps[app].release?.services.indices ?? 0..<0 {
        let image = apps[app].release?.services[service].image ?? ""
        do throws(ModelError) {
          apps[app].release?.services[service].image = try ImageReference(parsing: image).normalized
        } catch {
          throw TargetStateError(.failed, error.message)
        }
      }
    }
  }
}
