import CCurl
import EventLoop
import Glibc

extension Transfer {
  static func cancellation(of request: ClientRequest, phase: ClientError.Phase) -> ClientError {
    ClientError(kind: .cancelled, phase: phase, message: "\(request.peer): cancelled")
  }

  func error(kind: ClientError.Kind, code: CURLcode? = nil, reason: String) -> ClientError {
    ClientError(
      kind: kind, phase: phase, code: Int32(code?.rawValue ?? 0), message: "\(request.peer): \(reason)")
  }

  func describe(_ code: CURLcode) -> ClientError {
    if let failure = failureInCallback {
      return error(kind: failure.kind, code: code, reason: failure.reason)
    }
    let systemCode = easy.map { Int32(ccurl_get_long($0.pointer, CURLINFO_OS_ERRNO)) } ?? 0
    let text = easy?.errorMessage ?? String(cString: curl_easy_strerror(code))
    let systemText = systemCode == 0 ? text : String(cString: strerror(systemCode))
    return switch code {
    case CURLE_COULDNT_CONNECT: error(kind: .unreachable, code: code, reason: "cannot connect: \(systemText)")
    case CURLE_COULDNT_RESOLVE_HOST: error(kind: .nameNotResolved, code: code, reason: text)
    case CURLE_OPERATION_TIMEDOUT:
      error(
        kind: .timeout, code: code,
        reason: phase == .connecting
          ? "no connection after \(request.timeouts.connect.milliseconds) ms" : text)
    case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CONNECT_ERROR, CURLE_SSL_CACERT_BADFILE,
      CURLE_SSL_ISSUER_ERROR, CURLE_SSL_INVALIDCERTSTATUS, CURLE_SSL_ENGINE_INITFAILED:
      error(kind: .tls, code: code, reason: text)
    case CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_PARTIAL_FILE, CURLE_GOT_NOTHING, CURLE_SEND_FAIL_REWIND:
      error(kind: .interrupted, code: code, reason: "connection lost while \(phase.rawValue): \(text)")
    // libcurl names an answer without a status line after the HTTP/0.9 that it could have been.
    case CURLE_UNSUPPORTED_PROTOCOL where phase != .connecting:
      error(kind: .malformedAnswer, code: code, reason: "not an HTTP answer: \(text)")
    case CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL:
      error(kind: .invalidRequest, code: code, reason: text)
    case CURLE_TOO_MANY_REDIRECTS: error(kind: .tooManyRedirects, code: code, reason: text)
    case CURLE_WEIRD_SERVER_REPLY, CURLE_BAD_CONTENT_ENCODING, CURLE_HTTP2:
      error(kind: .malformedAnswer, code: code, reason: text)
    default: error(kind: .other, code: code, reason: text)
    }
  }
}
