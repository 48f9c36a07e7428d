#include "control/security/certificate.h"

#include <algorithm>
#include <fmt/format.h>
#include <openssl/asn1.h>
#include <openssl/err.h>

#include "control/security/openssl.h"

namespace sluice::security {
namespace {

using Store = std::unique_ptr<X509_STORE, OpensslDelete<X509_STORE_free>>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, OpensslDelete<X509_STORE_CTX_free>>;
using AlternativeNames = std::unique_ptr<GENERAL_NAMES, OpensslDelete<GENERAL_NAMES_free>>;

// 112 bits: no RSA below 2048, no SHA-1.
constexpr int kAuthLevel = 2;

std::string printed(const Bio& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

// Control characters are escaped: names come from strangers and go into logs.
std::string to_text(const X509_NAME* name) {
  const Bio bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253);
  return printed(bio);
}

std::string time_to_text(const ASN1_TIME* time) {
  const Bio bio(BIO_new(BIO_s_mem()));
  ASN1_TIME_print(bio.get(), time);
  return printed(bio);
}

std::string to_text(const ASN1_IA5STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<std::size_t>(ASN1_STRING_length(string))};
}

void read_alternative_names(const X509& certificate, Identity& identity) {
  const AlternativeNames names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  if (!names) return;
  unsigned roles = 0;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const auto* const name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) {
      identity.names.push_back(to_text(name->d.dNSName));
    } else if (name->type == GEN_URI) {
      const std::string uri = to_text(name->d.uniformResourceIdentifier);
      if (!uri.starts_with(kRoleUriPrefix)) continue;
      ++roles;
      identity.role = parse_role(std::string_view(uri).substr(kRoleUriPrefix.size()));
    }
  }
  if (roles != 1) identity.role.reset();
}

}  // namespace

bool Identity::speaks_for(std::string_view host) const {
  return std::find(names.begin(), names.end(), host) != names.end();
}

std::string Identity::describe() const { return fmt::format("{}, issued by {}", subject, issuer); }

Expected<Identity> identify(std::string_view pem) {
  const auto certificates = parse_certificates(pem);
  if (certificates.empty()) return fail(ErrorKind::kInvalid, "holds no certificate in PEM form");
  const X509& certificate = *certificates.front();
  Identity identity;
  identity.subject = to_text(X509_get_subject_name(&certificate));
  identity.issuer = to_text(X509_get_issuer_name(&certificate));
  identity.expires = time_to_text(X509_get0_notAfter(&certificate));
  read_alternative_names(certificate, identity);
  return identity;
}

Expected<void> verify_certificate(std::string_view certificate_pem, std::string_view chain_pem,
                                  std::string_view ca_pem, Side side) {
  const auto own = parse_certificates(certificate_pem);
  const auto chain = parse_certificates(chain_pem);
  const auto authorities = parse_certificates(ca_pem);
  if (own.empty()) return fail(ErrorKind::kInvalid, "no certificate");
  if (authorities.empty()) return fail(ErrorKind::kInvalid, "no certificate authority to ask");

  const Store store(X509_STORE_new());
  for (const auto& authority : authorities) X509_STORE_add_cert(store.get(), authority.get());
  // Owns nothing: `own` and `chain` do.
  const std::unique_ptr<STACK_OF(X509),
                        decltype([](STACK_OF(X509) * stack) { sk_X509_free(stack); })>
      untrusted(sk_X509_new_null());
  for (const auto& certificate : own) sk_X509_push(untrusted.get(), certificate.get());
  for (const auto& certificate : chain) sk_X509_push(untrusted.get(), certificate.get());

  const StoreContext context(X509_STORE_CTX_new());
  if (X509_STORE_CTX_init(context.get(), store.get(), own.front().get(), untrusted.get()) != 1)
    return fail(ErrorKind::kFailed, openssl_error());
  X509_STORE_CTX_set_purpose(
      context.get(), side == Side::kServer ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT);
  // What the CA file names is the anchor, also if somebody else has signed it.
  X509_STORE_CTX_set_flags(context.get(), X509_V_FLAG_PARTIAL_CHAIN);
  X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(context.get()), kAuthLevel);
  const bool trusted = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  if (trusted) return {};
  return fail(ErrorKind::kInvalid,
              X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get())));
}

}  // namespace sluice::security
