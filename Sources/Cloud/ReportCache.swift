import JSON

/// Whom a report was made to: another cloud, and a cloud that knows the device anew, have nothing of it.
nonisolated struct ReportAudience: Sendable, Hashable {
  var endpoint: String
  var uuid: String
  var deviceId: Int

  /// For the place where it is kept.
  var text: String { "\(endpoint) \(uuid) \(deviceId)" }
}

/// The last accepted report as it is kept over a restart of the agent (cloud 3.5).
nonisolated struct ReportCache: Sendable, Hashable {
  var audience: ReportAudience
  var accepted: JSONObject

  init(audience: ReportAudience, accepted: JSONObject) {
    self.audience = audience
    self.accepted = accepted
  }

  /// nil for what was reported to somebody else, and for what no report can have been.
  init?(parsing bytes: [UInt8], for audience: ReportAudience) {
    guard let members = try? JSON(parsing: bytes), members["endpoint"]?.stringValue == audience.endpoint,
      members["deviceId"]?.intValue == audience.deviceId,
      let accepted = members[audience.uuid]?.objectValue,
      !ReportDifference.metrics.contains(where: { accepted[$0] == .some(.null) })
    else { return nil }
    self.init(audience: audience, accepted: accepted)
  }

  var bytes: [UInt8] {
    let members: JSONObject = [
      "endpoint": .string(audience.endpoint), "deviceId": .int(audience.deviceId),
      audience.uuid: .object(accepted),
    ]
    return JSON.object(members).bytes()
  }
}
