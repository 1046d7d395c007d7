/// Why a request cannot be understood. The connection is closed after the answer, because
/// nobody knows where the next request would begin.
nonisolated enum RequestFault: Error, Equatable {
  case malformed
  case targetTooLong
  case headTooLarge
  case versionNotSupported
  case codingNotSupported
  case expectationFailed
  case timedOut
  case overloaded

  var status: Status {
    switch self {
    case .malformed: 400
    case .targetTooLong: 414
    case .headTooLarge: 431
    case .versionNotSupported: 505
    case .codingNotSupported: 501
    case .expectationFailed: 417
    case .timedOut: 408
    case .overloaded: 503
    }
  }
}
