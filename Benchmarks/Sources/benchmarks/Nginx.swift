import Foundation

/// The server to compare with: one worker, the same answers, no log.
final class Nginx {
  let port: Int
  private let process: Process

  /// - Parameter status: body of `/v2/state/status`, served from a file that nginx keeps open; a `return` of its
  ///   configuration holds at most 4 KiB.
  init(_ setting: Setting, port: Int, status: Data) throws {
    self.port = port
    let directory = setting.directory.appending(path: "nginx")
    let files = directory.appending(path: "files/v2/state")
    try FileManager.default.createDirectory(at: files, withIntermediateDirectories: true)
    try status.write(to: files.appending(path: "status"))
    let configuration = directory.appending(path: "nginx.conf")
    try Data(
      """
      daemon off;
      worker_processes 1;
      user root;
      pid \(directory.path)/nginx.pid;
      error_log \(directory.path)/error.log warn;
      events { worker_connections 4096; }
      http {
        access_log off;
        keepalive_requests 1000000000;
        sendfile on;
        tcp_nopush on;
        open_file_cache max=16;
        open_file_cache_valid 1h;
        client_body_temp_path \(directory.path)/body;
        proxy_temp_path \(directory.path)/proxy;
        fastcgi_temp_path \(directory.path)/fastcgi;
        uwsgi_temp_path \(directory.path)/uwsgi;
        scgi_temp_path \(directory.path)/scgi;
        server {
          listen 127.0.0.1:\(port);
          location = /ping { default_type text/html; return 200 "OK"; }
          location / { default_type application/json; root \(directory.path)/files; }
        }
      }

      """.utf8
    ).write(to: configuration)
    process = try Command.start(
      Command.pinned(["nginx", "-p", directory.path, "-c", configuration.path], to: 0),
      log: directory.appending(path: "nginx.log"))
    for _ in 0..<100 {
      if LoopbackClient.request("GET", "/ping", port: port)?.status == 200 { return }
      usleep(50_000)
    }
    Command.end(process)
    throw Failure("nginx does not answer; see \(directory.path)/error.log and nginx.log")
  }

  func stop() { Command.end(process) }
}
