// A peer's certificate: DER as the input has it, or any text that should be PEM. It is read without
// harm, and nobody but its authority can vouch for it.
#include <openssl/evp.h>
#include <string>
#include <string_view>

#include "control/security/certificate.h"
#include "tests/fuzz/fuzz.h"

namespace sluice::security {
namespace {

using fuzz::accepted;
using fuzz::require;

std::string to_pem(std::string_view der) {
  std::string base64(4 * (der.size() / 3 + 1) + 1, '\0');
  const int bytes = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(base64.data()),
                                    reinterpret_cast<const unsigned char*>(der.data()),
                                    static_cast<int>(der.size()));
  base64.resize(static_cast<std::size_t>(bytes));
  std::string pem = "-----BEGIN CERTIFICATE-----\n";
  for (std::size_t at = 0; at < base64.size(); at += 64) {
    pem.append(base64, at, 64).append("\n");
  }
  return pem + "-----END CERTIFICATE-----\n";
}

void check(const std::string& pem) {
  const auto identity = identify(pem);
  if (!accepted(identity)) {
    return;
  }
  const std::string described = identity->describe();
  require(described.find('\n') == std::string::npos, "a certificate is described in one line");
  for (const std::string& name : identity->names) {
    require(identity->speaks_for(name), "a certificate speaks for its names");
  }
  (void)verify_certificate(pem, "", pem, Side::kClient);
}

}  // namespace
}  // namespace sluice::security

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  sluice::security::check(std::string(bytes));
  sluice::security::check(sluice::security::to_pem(bytes));
  return 0;
}
