#include "CCurl.h"

#include <stdio.h>
#include <unistd.h>

struct refuser {
  int listening;
  int accepted;
};

static int refuse(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
  // An alert of TLS, which ends each handshake.
  static const unsigned char refusal[] = {21, 3, 3, 0, 2, 2, 40};
  struct refuser *refuser = context;
  (void)a, (void)b, (void)c, (void)d;
  if (refuser->accepted >= 0) return 0;
  refuser->accepted = accept(refuser->listening, NULL, NULL);
  return refuser->accepted >= 0 && send(refuser->accepted, refusal, sizeof refusal, MSG_NOSIGNAL) < 0;
}

CURLcode ccurl_try_certificates(const void *pem, size_t length) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  struct refuser refuser = {socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), -1};
  if (refuser.listening < 0) return CURLE_COULDNT_CONNECT;
  CURLcode code = CURLE_COULDNT_CONNECT;
  CURL *easy = NULL;
  if (bind(refuser.listening, (struct sockaddr *)&address, size) == 0 && listen(refuser.listening, 1) == 0 &&
      getsockname(refuser.listening, (struct sockaddr *)&address, &size) == 0 && (easy = curl_easy_init()) != NULL) {
    char url[64];
    snprintf(url, sizeof url, "https://127.0.0.1:%u/", (unsigned)ntohs(address.sin_port));
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 1000L);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, refuse);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &refuser);
    ccurl_set_blob(easy, CURLOPT_CAINFO_BLOB, pem, length);
    code = curl_easy_perform(easy);
    curl_easy_cleanup(easy);
  }
  if (refuser.accepted >= 0) close(refuser.accepted);
  close(refuser.listening);
  return code;
}
