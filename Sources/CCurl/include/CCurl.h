/// libcurl, and what Swift cannot import of it: the variadic setters and getters, one inline
/// wrapper for each kind of argument, and callbacks with their exact types.
#pragma once

#include <curl/curl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static inline CURLcode ccurl_global_init(void) { return curl_global_init(CURL_GLOBAL_DEFAULT); }

static inline CURLcode ccurl_set_long(CURL *easy, CURLoption option, long value) {
  return curl_easy_setopt(easy, option, value);
}

static inline CURLcode ccurl_set_offset(CURL *easy, CURLoption option, curl_off_t value) {
  return curl_easy_setopt(easy, option, value);
}

/// libcurl copies the text; NULL restores the default.
static inline CURLcode ccurl_set_string(CURL *easy, CURLoption option, const char *value) {
  return curl_easy_setopt(easy, option, value);
}

static inline CURLcode ccurl_set_pointer(CURL *easy, CURLoption option, void *value) {
  return curl_easy_setopt(easy, option, value);
}

static inline CURLcode ccurl_set_list(CURL *easy, CURLoption option, struct curl_slist *value) {
  return curl_easy_setopt(easy, option, value);
}

/// libcurl copies the bytes.
static inline CURLcode ccurl_set_blob(CURL *easy, CURLoption option, const void *data, size_t length) {
  struct curl_blob blob;
  blob.data = (void *)data;
  blob.len = length;
  blob.flags = CURL_BLOB_COPY;
  return curl_easy_setopt(easy, option, &blob);
}

/// For CURLOPT_WRITEFUNCTION, CURLOPT_HEADERFUNCTION and CURLOPT_READFUNCTION, whose types agree.
static inline CURLcode ccurl_set_data_function(CURL *easy, CURLoption option,
                                               size_t (*function)(char *, size_t, size_t, void *)) {
  return curl_easy_setopt(easy, option, function);
}

static inline CURLcode ccurl_set_seek_function(CURL *easy, int (*function)(void *, curl_off_t, int)) {
  return curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, function);
}

/// The callback that runs when the connection stands and before the request leaves.
static inline CURLcode ccurl_set_connected_function(CURL *easy,
                                                    int (*function)(void *, char *, char *, int, int)) {
  return curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, function);
}

static inline long ccurl_get_long(CURL *easy, CURLINFO info) {
  long value = 0;
  curl_easy_getinfo(easy, info, &value);
  return value;
}

static inline void *ccurl_get_private(CURL *easy) {
  char *value = NULL;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, &value);
  return value;
}

static inline CURLMcode ccurl_multi_set_long(CURLM *multi, CURLMoption option, long value) {
  return curl_multi_setopt(multi, option, value);
}

static inline CURLMcode ccurl_multi_set_socket_function(
    CURLM *multi, int (*function)(CURL *, curl_socket_t, int, void *, void *), void *context) {
  CURLMcode code = curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, context);
  return code != CURLM_OK ? code : curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, function);
}

static inline CURLMcode ccurl_multi_set_timer_function(CURLM *multi, int (*function)(CURLM *, long, void *),
                                                       void *context) {
  CURLMcode code = curl_multi_setopt(multi, CURLMOPT_TIMERDATA, context);
  return code != CURLM_OK ? code : curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, function);
}

/// Makes the share hold the TLS sessions of all its handles.
static inline CURLSHcode ccurl_share_tls_sessions(CURLSH *share) {
  return curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
}

/// Bytes that the other side of a connection has not acknowledged (tcp(7), SIOCOUTQ); negative when unknown.
static inline int ccurl_unacknowledged(int socket) {
  int count = -1;
  return ioctl(socket, SIOCOUTQ, &count) == 0 ? count : -1;
}

/// Packets that are on their way (tcp(7), TCP_INFO); negative when the connection has ended on either side, or is
/// none of TCP.
static inline int ccurl_packets_in_flight(int socket) {
  struct tcp_info info;
  socklen_t length = sizeof info;
  if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return -1;
  return info.tcpi_state == TCP_ESTABLISHED ? (int)info.tcpi_unacked : -1;
}

/// The bundle of certificates that libcurl was built to read; NULL when there is none.
static inline const char *ccurl_default_bundle(void) { return curl_version_info(CURLVERSION_NOW)->cainfo; }

/// Whether the library that does libcurl's TLS can read these bytes of DER as one certificate. libcurl trusts none of
/// a text of which it cannot read one.
bool ccurl_reads_certificate(const unsigned char *der, size_t length);

/// The result of a finished transfer; CURLMsg holds it in a union.
static inline CURLcode ccurl_message_result(const CURLMsg *message) { return message->data.result; }
