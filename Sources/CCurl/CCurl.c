#include "CCurl.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509.h>

bool ccurl_reads_certificate(const unsigned char *der, size_t length) {
  if (length > LONG_MAX) return false;
  const unsigned char *end = der;
  X509 *certificate = d2i_X509(NULL, &end, (long)length);
  // What it says of a refusal would be taken for an error of the next handshake.
  ERR_clear_error();
  bool isWhole = certificate != NULL && end == der + length;
  X509_free(certificate);
  return isWhole;
}
