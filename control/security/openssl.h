// Owners of what OpenSSL allocates, and its errors as text. Any thread.
#pragma once

#include <memory>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::security {

template <auto Free>
struct OpensslDelete {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, OpensslDelete<BIO_free_all>>;
using X509Ptr = std::unique_ptr<X509, OpensslDelete<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpensslDelete<EVP_PKEY_free>>;

// The certificates of a PEM text, in order; what is no certificate is skipped. Empty if there is
// none.
[[nodiscard]] std::vector<X509Ptr> parse_certificates(std::string_view pem);
// nullptr if there is none, or if it is locked by a passphrase.
[[nodiscard]] KeyPtr parse_key(std::string_view pem);
[[nodiscard]] std::string pem_of(X509& certificate);
[[nodiscard]] std::string pem_of(EVP_PKEY& key);
// The earliest error that OpenSSL remembers of this thread; forgets the rest.
[[nodiscard]] std::string openssl_error();

}  // namespace sluice::security
