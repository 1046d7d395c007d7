/// Times of whole reads of the same files, one for each round.
nonisolated struct FormatFigures: Codable {
  var agentSeconds: [Double] = []
  var journalctlSeconds: [Double] = []
  var gatewaySeconds: [Double] = []
}

nonisolated struct JournalFigures: Codable {
  var formats: [String: FormatFigures] = [:]
  var loopSeconds: [Double] = []
  /// Anonymous memory at its most, above that before the streams.
  var streamKiB = 0
  /// Of each `/ping` while streams run.
  var pingMilliseconds: [Double] = []
  /// From the entry's way to journald to its arrival at the client.
  var followMilliseconds: [Double] = []
  var wakeUpsPerEntry = 0.0
  /// The same of entries 700 ms apart.
  var apartMilliseconds: [Double] = []
  /// The same of an entry that nothing preceded for six seconds: journald tells of it late.
  var aloneMilliseconds: [Double] = []
  var journalctlAloneMilliseconds: [Double] = []

  struct Row {
    let name: String
    let measured: String
    let limit: String
    let holds: Bool
  }

  var rows: [Row] {
    let wanted = [("json", 6.0), ("short", 2.0), ("export", 1.5)]
    var rows: [Row] = []
    for (format, least) in wanted {
      guard let times = formats[format] else { continue }
      let agent = times.agentSeconds.median
      let ratio = times.journalctlSeconds.median / agent
      rows.append(
        Row(
          name: "journal-logs `\(format)`, entries/s of `journalctl -o \(format)`",
          measured: Report.number(ratio),
          limit: "≥ \(Report.number(least))", holds: ratio >= least))
      let gateway = times.gatewaySeconds.median / agent
      rows.append(
        Row(
          name: "journal-logs `\(format)`, entries/s of systemd-journal-gatewayd",
          measured: Report.number(gateway), limit: "≥ 1", holds: gateway >= 1))
      let loop = agent / loopSeconds.median
      rows.append(
        Row(
          name: "journal-logs `\(format)`, time of a C loop over every field", measured: Report.number(loop),
          limit: "≤ 2", holds: loop <= 2))
    }
    let ordered = pingMilliseconds.sorted()
    let worst = ordered.isEmpty ? 0 : ordered[ordered.count * 99 / 100]
    rows += [
      Row(
        name: "anonymous memory of \(JournalSuite.streams) streams and a stalled one, MiB",
        measured: Report.number(Double(streamKiB) / 1024), limit: "≤ 2", holds: streamKiB <= 2048),
      Row(
        name: "`/ping` during these streams, 99th percentile, ms", measured: Report.number(worst),
        limit: "≤ 5", holds: worst <= 5),
      Row(
        name: "one entry after the other, 20 ms apart, reaches a follower, median, ms",
        measured: Report.number(followMilliseconds.median), limit: "≤ 20",
        holds: followMilliseconds.median <= 20),
      Row(
        name: "one entry after the other, 700 ms apart, reaches a follower, median, ms",
        measured: Report.number(apartMilliseconds.median), limit: "≤ 20",
        holds: apartMilliseconds.median <= 20),
      Row(
        name: "wake-ups for an entry 20 ms after another", measured: Report.number(wakeUpsPerEntry),
        limit: "≤ 4",
        holds: wakeUpsPerEntry <= 4),
      Row(
        name: "a lone entry reaches a follower, median, ms",
        measured: Report.number(aloneMilliseconds.median),
        limit: "≤ \(Report.number(journalctlAloneMilliseconds.median * 1.05)), 1.05 × `journalctl --follow`",
        holds: aloneMilliseconds.median <= journalctlAloneMilliseconds.median * 1.05),
    ]
    return rows
  }
}
