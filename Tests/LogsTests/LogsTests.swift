import Logging
import Testing

@testable import Logs

@Suite struct LogsTests {
  private func line(_ level: Logger.Level, _ message: String) -> String {
    String(decoding: LogLine.text(level: level, message: message), as: UTF8.self)
  }

  @Test func aLineHasItsLevelInATenColumnField() {
    #expect(line(.info, "text") == "[info]    text\n")
    #expect(line(.warning, "text") == "[warn]    text\n")
    #expect(line(.critical, "text") == "[critical] text\n")
  }

  @Test func noTextForgesASecondLine() {
    #expect(line(.error, "a\n[info]    b\r\u{1B}[2Jc") == "[error]   a [info]    b  [2Jc\n")
  }

  @Test(arguments: [
    ("app-id", "APP_ID"), ("MESSAGE_ID", "MESSAGE_ID"), ("größe", "GR____E"), ("_PID", "X_PID"),
    ("1st", "X1ST"), ("", "X"),
  ])
  func metadataKeysBecomeFieldsThatTheJournalTakes(key: String, field: String) {
    #expect(JournalRecord.fieldName(key) == field)
  }

  @Test func levelsBecomeSyslogPriorities() {
    #expect(Logger.Level.allCases.map(\.syslogPriority) == [7, 7, 6, 5, 4, 3, 2])
  }
}
