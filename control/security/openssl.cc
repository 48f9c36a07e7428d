#include "control/security/openssl.h"

#include <array>
#include <openssl/err.h>
#include <openssl/pem.h>

namespace sluice::security {
namespace {

Bio reading(std::string_view text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::string content_of(BIO& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(&bio, &data);
  return {data, static_cast<std::size_t>(size)};
}

// Without this OpenSSL would ask on the terminal.
int no_passphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*context*/) { return -1; }

}  // namespace

std::vector<X509Ptr> parse_certificates(std::string_view pem) {
  std::vector<X509Ptr> certificates;
  const Bio bio = reading(pem);
  while (X509Ptr next{PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr)})
    certificates.push_back(std::move(next));
  ERR_clear_error();
  return certificates;
}

KeyPtr parse_key(std::string_view pem) {
  KeyPtr key{PEM_read_bio_PrivateKey(reading(pem).get(), nullptr, no_passphrase, nullptr)};
  ERR_clear_error();
  return key;
}

std::string pem_of(X509& certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), &certificate);
  return content_of(*bio);
}

std::string pem_of(EVP_PKEY& key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PKCS8PrivateKey(bio.get(), &key, nullptr, nullptr, 0, nullptr, nullptr);
  return content_of(*bio);
}

std::string openssl_error() {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  return text.data();
}

}  // namespace sluice::security
