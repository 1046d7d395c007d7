import CCurl
import EventLoop

extension Transfer {
  /// Sets everything that the request and the client want of libcurl.
  func configure(
    _ easy: UnsafeMutableRawPointer, userAgent: String?, roots: TrustRoots
  ) throws(ClientError) {
    for text in [request.method, request.url] where text.utf8.contains(where: { $0 <= 0x20 }) {
      throw error(kind: .invalidRequest, reason: "blanks and control characters must be percent-encoded")
    }
    ccurl_set_pointer(easy, CURLOPT_PRIVATE, Unmanaged.passUnretained(self).toOpaque())
    ccurl_set_string(easy, CURLOPT_URL, request.url)
    ccurl_set_long(easy, CURLOPT_PATH_AS_IS, 1)
    ccurl_set_string(easy, CURLOPT_PROTOCOLS_STR, "http,https")
    ccurl_set_string(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https")
    ccurl_set_long(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1)
    if let path = request.unixSocket { ccurl_set_string(easy, CURLOPT_UNIX_SOCKET_PATH, path) }
    ccurl_set_string(easy, CURLOPT_PROXY, "")
    ccurl_set_long(easy, CURLOPT_NOSIGNAL, 1)
    // A transfer that ends during a look-up leaves the resolver's thread to end by itself; libcurl would wait for
    // it, and the loop with it, until the name servers have answered or not.
    ccurl_set_long(easy, CURLOPT_QUICK_EXIT, 1)
    ccurl_set_long(easy, CURLOPT_TCP_KEEPALIVE, 1)
    ccurl_set_long(easy, CURLOPT_BUFFERSIZE, Self.bufferSize)
    ccurl_set_long(easy, CURLOPT_UPLOAD_BUFFERSIZE, Self.bufferSize)
    // Zero would mean libcurl's own 300 s.
    let connectLimit = max(request.timeouts.connect.milliseconds, 1)
    ccurl_set_long(easy, CURLOPT_CONNECTTIMEOUT_MS, connectLimit)
    if let (host, port) = request.authority, !request.addresses.isEmpty {
      let addresses = request.addresses.map { $0.contains(":") ? "[\($0)]" : $0 }.joined(separator: ",")
      resolveList = curl_slist_append(nil, "+\(host):\(port):\(addresses)")
      ccurl_set_list(easy, CURLOPT_RESOLVE, resolveList)
    }
    if request.connectsOnly {
      ccurl_set_long(easy, CURLOPT_CONNECT_ONLY, 1)
      ccurl_set_long(easy, CURLOPT_FRESH_CONNECT, 1)
    }
    if let userAgent { ccurl_set_string(easy, CURLOPT_USERAGENT, userAgent) }
    if request.acceptsEncodings { ccurl_set_string(easy, CURLOPT_ACCEPT_ENCODING, "") }

    if let directory = roots.systemDirectory {
      ccurl_set_string(easy, CURLOPT_CAPATH, directory)
      ccurl_set_string(easy, CURLOPT_CAINFO, nil)
    }
    if !roots.blob.isEmpty {
      roots.blob.withUnsafeBytes {
        _ = ccurl_set_blob(easy, CURLOPT_CAINFO_BLOB, $0.baseAddress, $0.count)
      }
    }

    let context = Unmanaged.passUnretained(self).toOpaque()
    ccurl_set_data_function(easy, CURLOPT_WRITEFUNCTION, writeCallback)
    ccurl_set_pointer(easy, CURLOPT_WRITEDATA, context)
    ccurl_set_data_function(easy, CURLOPT_HEADERFUNCTION, headerCallback)
    ccurl_set_pointer(easy, CURLOPT_HEADERDATA, context)
    ccurl_set_connected_function(easy, connectedCallback)
    ccurl_set_pointer(easy, CURLOPT_PREREQDATA, context)

    switch request.body {
    case .none: try setMethodWithoutBody(easy)
    case .bytes(let bytes): setUpload(easy, length: bytes.count, context)
    case .stream(let body): setUpload(easy, length: body.length ?? -1, context)
    }
    try setHeaders(easy)
  }

  private func setMethodWithoutBody(_ easy: UnsafeMutableRawPointer) throws(ClientError) {
    switch request.method {
    case "GET": ccurl_set_long(easy, CURLOPT_HTTPGET, 1)
    case "HEAD": ccurl_set_long(easy, CURLOPT_NOBODY, 1)
    case "DELETE", "OPTIONS": ccurl_set_string(easy, CURLOPT_CUSTOMREQUEST, request.method)
    default:
      // An empty body of known length: `Content-Length: 0`, which POST and PATCH should have.
      ccurl_set_long(easy, CURLOPT_POST, 1)
      ccurl_set_long(easy, CURLOPT_POSTFIELDSIZE, 0)
      ccurl_set_string(easy, CURLOPT_COPYPOSTFIELDS, "")
      ccurl_set_string(easy, CURLOPT_CUSTOMREQUEST, request.method)
    }
    if request.redirectLimit > 0 {
      ccurl_set_long(easy, CURLOPT_FOLLOWLOCATION, 1)
      ccurl_set_long(easy, CURLOPT_MAXREDIRS, request.redirectLimit)
    }
  }

  private func setUpload(_ easy: UnsafeMutableRawPointer, length: Int, _ context: UnsafeMutableRawPointer) {
    ccurl_set_long(easy, CURLOPT_UPLOAD, 1)
    ccurl_set_string(easy, CURLOPT_CUSTOMREQUEST, request.method)
    ccurl_set_offset(easy, CURLOPT_INFILESIZE_LARGE, curl_off_t(length))
    ccurl_set_data_function(easy, CURLOPT_READFUNCTION, readCallback)
    ccurl_set_pointer(easy, CURLOPT_READDATA, context)
    ccurl_set_seek_function(easy, seekCallback)
    ccurl_set_pointer(easy, CURLOPT_SEEKDATA, context)
  }

  private func setHeaders(_ easy: UnsafeMutableRawPointer) throws(ClientError) {
    // A name followed by a bare colon removes what libcurl would send by itself.
    var lines = ["Expect:"]
    if !request.headers.contains(where: { $0.name.lowercased() == "content-type" }) {
      lines.append("Content-Type:")
    }
    for (name, value) in request.headers {
      guard !name.isEmpty, !"\(name)\(value)".utf8.contains(where: { $0 == 13 || $0 == 10 || $0 == 0 }) else {
        throw error(kind: .invalidRequest, reason: "header \"\(name)\" has a line break in it")
      }
      // libcurl sends a header without value only when a semicolon stands for the colon.
      lines.append(value.isEmpty ? "\(name);" : "\(name): \(value)")
    }
    for line in lines { headerList = curl_slist_append(headerList, line) }
    ccurl_set_list(easy, CURLOPT_HTTPHEADER, headerList)
  }
}
