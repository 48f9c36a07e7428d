#include "drivers/base/secret.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <vector>

#include "dataplane/wire/codec.h"

namespace sluice {
namespace {

// Tells these keys from any other use of the secret, and of another version of the frames.
constexpr std::string_view kFrameKeyLabel = "sluice frame key v2";

tl::unexpected<Error> openssl_failed(const char* what) {
  char reason[256] = "";
  ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
  return fail(ErrorKind::kFailed, std::string(what) + ": " + reason);
}

OSSL_PARAM octets(const char* key, std::span<const std::byte> bytes) {
  return OSSL_PARAM_construct_octet_string(key, const_cast<std::byte*>(bytes.data()), bytes.size());
}

}  // namespace

Secret::~Secret() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

Secret::Secret(Secret&& other) noexcept : bytes_(other.bytes_) {
  OPENSSL_cleanse(other.bytes_.data(), other.bytes_.size());
}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    bytes_ = other.bytes_;
    OPENSSL_cleanse(other.bytes_.data(), other.bytes_.size());
  }
  return *this;
}

Expected<Secret> Secret::make() {
  Secret secret;
  if (RAND_bytes(reinterpret_cast<unsigned char*>(secret.bytes_.data()), kBytes) != 1) {
    return openssl_failed("no randomness for the session's secret");
  }
  return secret;
}

Expected<Secret> Secret::from_bytes(std::string_view bytes) {
  if (bytes.size() != kBytes) {
    return fail(ErrorKind::kInvalid, "a session's secret has " + std::to_string(kBytes) +
                                         " bytes, not " + std::to_string(bytes.size()));
  }
  Secret secret;
  std::memcpy(secret.bytes_.data(), bytes.data(), kBytes);
  return secret;
}

void wipe(std::string& text) { OPENSSL_cleanse(text.data(), text.size()); }

Expected<void> hkdf_sha256(std::span<const std::byte> secret, std::span<const std::byte> salt,
                           std::span<const std::byte> info, std::span<std::byte> out) {
  const std::unique_ptr<EVP_KDF, decltype(&EVP_KDF_free)> kdf(
      EVP_KDF_fetch(nullptr, OSSL_KDF_NAME_HKDF, nullptr), EVP_KDF_free);
  const std::unique_ptr<EVP_KDF_CTX, decltype(&EVP_KDF_CTX_free)> context(
      kdf == nullptr ? nullptr : EVP_KDF_CTX_new(kdf.get()), EVP_KDF_CTX_free);
  char digest[] = "SHA256";
  // OpenSSL 3.0 refuses an empty salt or info; leaving it out means the same (RFC 5869, 2.2).
  std::vector<OSSL_PARAM> parameters = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      octets(OSSL_KDF_PARAM_KEY, secret)};
  if (!salt.empty()) {
    parameters.push_back(octets(OSSL_KDF_PARAM_SALT, salt));
  }
  if (!info.empty()) {
    parameters.push_back(octets(OSSL_KDF_PARAM_INFO, info));
  }
  parameters.push_back(OSSL_PARAM_construct_end());
  if (context == nullptr ||
      EVP_KDF_derive(context.get(), reinterpret_cast<unsigned char*>(out.data()), out.size(),
                     parameters.data()) != 1) {
    return openssl_failed("HKDF-SHA256");
  }
  return {};
}

Expected<Secret> derive_frame_key(const Secret& secret, std::uint64_t session, std::uint16_t flow,
                                  wire::FrameType type) {
  std::array<std::byte, kFrameKeyLabel.size() + sizeof(session) + sizeof(flow) + sizeof(type)> info;
  std::byte* to = info.data();
  std::memcpy(to, kFrameKeyLabel.data(), kFrameKeyLabel.size());
  wire::store_be(to += kFrameKeyLabel.size(), session);
  wire::store_be(to += sizeof(session), flow);
  *(to += sizeof(flow)) = static_cast<std::byte>(type);
  Secret key;
  if (auto derived = hkdf_sha256(secret.bytes(), {}, info, key.bytes()); !derived) {
    return tl::unexpected<Error>(std::move(derived.error()));
  }
  return key;
}

}  // namespace sluice
