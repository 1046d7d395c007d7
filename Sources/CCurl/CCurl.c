#include "CCurl.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static CURLcode stop_handshake(CURL *easy, void *context, void *unused) {
  (void)easy;
  (void)context;
  (void)unused;
  return CURLE_ABORTED_BY_CALLBACK;
}

static size_t discard(char *bytes, size_t size, size_t count, void *unused) {
  (void)bytes;
  (void)unused;
  return size * count;
}

int ccurl_can_read_certificates(const void *pem, size_t length) {
  int can_read = 1;
  int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listening < 0) return can_read;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  CURL *easy = NULL;
  if (bind(listening, (struct sockaddr *)&address, size) == 0 && listen(listening, 1) == 0 &&
      getsockname(listening, (struct sockaddr *)&address, &size) == 0 && (easy = curl_easy_init()) != NULL) {
    char url[64];
    snprintf(url, sizeof url, "https://127.0.0.1:%u/", (unsigned)ntohs(address.sin_port));
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 1000L);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, stop_handshake);
    ccurl_set_blob(easy, CURLOPT_CAINFO_BLOB, pem, length);
    can_read = curl_easy_perform(easy) != CURLE_SSL_CACERT_BADFILE;
    curl_easy_cleanup(easy);
  }
  close(listening);
  return can_read;
}
