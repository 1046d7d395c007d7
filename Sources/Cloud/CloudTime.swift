/// The wall clock, for log records.
public enum CloudTime {
  /// Since 1970.
  public static func milliseconds() -> Int { CloudClient.wallClockMilliseconds() }
}
