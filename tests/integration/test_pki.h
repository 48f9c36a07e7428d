// Credentials for tests, of a certificate authority of their own.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "control/security/credentials.h"
#include "control/security/pki.h"

namespace sluice::test {

class TestPki {
 public:
  explicit TestPki(std::string directory) : directory_(std::move(directory)) {
    require(security::make_authority(directory_, false));
  }

  // Made when they are first asked for. The file's name is the certificate's.
  security::SecurityConfig config(const std::string& name, security::Role role) {
    security::CertificateRequest request;
    request.name = name;
    request.role = role;
    const auto files = require(security::make_certificate(directory_, request, true));
    return {.ca = directory_ + "/ca.pem", .certificate = files.certificate, .key = files.key};
  }
  std::shared_ptr<const security::Credentials> credentials(
      const std::string& name, security::Role role = security::Role::kHost) {
    return require(security::Credentials::load(config(name, role), ""));
  }

 private:
  template <typename T>
  static T require(Expected<T> result) {
    if (result) return std::move(*result);
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::abort();
  }

  const std::string directory_;
};

}  // namespace sluice::test
