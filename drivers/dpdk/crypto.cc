#include "drivers/dpdk/crypto.h"

#include <algorithm>
#include <cassert>
#include <mutex>
#include <openssl/crypto.h>
#include <rte_cpuflags.h>
#include <rte_cryptodev.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_mempool.h>
#include <string>
#include <utility>

#include "dataplane/wire/codec.h"

namespace sluice::dpdk {
namespace {

constexpr const char* kDevice = "crypto_aesni_gcm0";

// Keys at once: of both ends of 256 flows, of the types of frames that each of them sends or
// receives.
constexpr unsigned kKeysMax = 1024;

constexpr const char* kRemedy =
    "; migrations can only go in the clear: --plaintext, where both hosts' configuration says "
    "[security] allow_plaintext = true";

// Never used, as frames go the synchronous way; but the driver (22.11) expands keys with what
// belongs to the first queue pair.
bool set_up_queue_pair(std::uint8_t device) {
  rte_cryptodev_config config{};
  config.socket_id = SOCKET_ID_ANY;
  config.nb_queue_pairs = 1;
  rte_cryptodev_qp_conf queue_pair{};
  queue_pair.nb_descriptors = 64;
  return rte_cryptodev_configure(device, &config) == 0 &&
         rte_cryptodev_queue_pair_setup(device, 0, &queue_pair, SOCKET_ID_ANY) == 0 &&
         rte_cryptodev_start(device) == 0;
}

std::array<std::byte, wire::kNonceBytes> nonce_of(std::span<const std::byte> frame) {
  wire::DropReason reason{};
  const auto key = wire::peek(frame, reason);
  assert(key);
  std::array<std::byte, wire::kNonceBytes> nonce{};
  wire::store_be(nonce.data() + nonce.size() - sizeof(key->sequence), key->sequence);
  return nonce;
}

}  // namespace

struct GcmKey::Device {
  std::uint8_t id = 0;
  rte_mempool* sessions = nullptr;
  // A session is wiped after it has gone back to its pool, before anybody can take it out again.
  std::mutex mutex;
};

GcmKey::~GcmKey() {
  const std::lock_guard lock(device_->mutex);
  rte_cryptodev_sym_session_free(device_->id, session_);
  OPENSSL_cleanse(session_, device_->sessions->elt_size);
}

Expected<std::unique_ptr<Crypto>> Crypto::start() {
  if (rte_cpu_get_flag_enabled(RTE_CPUFLAG_AES) != 1) {
    return fail(ErrorKind::kUnsupported,
                std::string("encryption: this CPU has no AES instructions (AES-NI)") + kRemedy);
  }
  if (rte_eal_hotplug_add("vdev", kDevice, "") != 0) {
    return fail(ErrorKind::kUnsupported,
                std::string("encryption: DPDK's crypto_aesni_gcm does not start; is the package "
                            "librte-crypto-ipsec-mb23 installed?") +
                    kRemedy);
  }
  const int id = rte_cryptodev_get_dev_id(kDevice);
  if (id < 0) {
    return fail(ErrorKind::kUnsupported, "encryption: DPDK does not know its own crypto_aesni_gcm");
  }
  auto device = std::make_shared<GcmKey::Device>();
  device->id = static_cast<std::uint8_t>(id);
  device->sessions = rte_cryptodev_sym_session_pool_create(
      "frame-keys", kKeysMax, rte_cryptodev_sym_get_private_session_size(device->id), 0, 0,
      SOCKET_ID_ANY);
  if (device->sessions == nullptr || !set_up_queue_pair(device->id)) {
    return fail(ErrorKind::kNoCapacity,
                "encryption: no room for keys; raise the data plane's memory");
  }
  return std::unique_ptr<Crypto>(new Crypto(std::move(device)));
}

Expected<std::unique_ptr<GcmKey>> Crypto::make_key(const Secret& key, KeyUse use,
                                                   std::size_t associated_bytes) const {
  rte_crypto_sym_xform transform{};
  transform.type = RTE_CRYPTO_SYM_XFORM_AEAD;
  transform.aead.op =
      use == KeyUse::kSeal ? RTE_CRYPTO_AEAD_OP_ENCRYPT : RTE_CRYPTO_AEAD_OP_DECRYPT;
  transform.aead.algo = RTE_CRYPTO_AEAD_AES_GCM;
  transform.aead.key.data = reinterpret_cast<const std::uint8_t*>(key.bytes().data());
  transform.aead.key.length = Secret::kBytes;
  transform.aead.iv.length = wire::kNonceBytes;
  transform.aead.digest_length = wire::kTagBytes;
  transform.aead.aad_length = static_cast<std::uint16_t>(associated_bytes);
  const std::lock_guard lock(device_->mutex);
  void* session = rte_cryptodev_sym_session_create(device_->id, &transform, device_->sessions);
  if (session == nullptr) {
    return fail(ErrorKind::kNoCapacity,
                std::string("encryption: no key for another flow: ") + rte_strerror(rte_errno));
  }
  return std::unique_ptr<GcmKey>(new GcmKey(device_, session));
}

void run_cipher(const GcmKey& key, std::span<CipherJob> jobs) noexcept {
  assert(jobs.size() <= kCipherBurstMax);
  std::array<rte_crypto_vec, kCipherBurstMax> texts;
  std::array<rte_crypto_sgl, kCipherBurstMax> lists;
  std::array<rte_crypto_va_iova_ptr, kCipherBurstMax> nonces;
  std::array<rte_crypto_va_iova_ptr, kCipherBurstMax> associated;
  std::array<rte_crypto_va_iova_ptr, kCipherBurstMax> tags;
  std::array<std::int32_t, kCipherBurstMax> status;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    CipherJob& job = jobs[i];
    const auto bytes = static_cast<std::uint32_t>(job.text.size());
    texts[i] = {job.text.data(), 0, bytes, bytes};
    lists[i] = {&texts[i], 1};
    nonces[i] = {job.nonce.data(), 0};
    associated[i] = {job.associated, 0};
    tags[i] = {job.tag, 0};
    status[i] = -1;
  }
  rte_crypto_sym_vec batch{};
  batch.num = static_cast<std::uint32_t>(jobs.size());
  batch.src_sgl = lists.data();
  batch.iv = nonces.data();
  batch.aad = associated.data();
  batch.digest = tags.data();
  batch.status = status.data();
  rte_cryptodev_sym_cpu_crypto_process(key.device_->id, key.session_, rte_crypto_sym_ofs{}, &batch);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].done = status[i] == 0;
  }
}

void process_frames(std::span<port::SealedFrame> frames) noexcept {
  std::array<CipherJob, kCipherBurstMax> jobs;
  while (!frames.empty()) {
    const port::FrameKey* key = frames.front().key;
    std::size_t count = 0;
    while (count < std::min(frames.size(), jobs.size()) && frames[count].key == key) {
      const std::span<std::byte> bytes = frames[count].bytes;
      CipherJob& job = jobs[count++];
      job.nonce = nonce_of(bytes);
      job.associated = bytes.data();
      job.text = bytes.subspan(wire::kFrameHeaderBytes,
                               bytes.size() - wire::kFrameHeaderBytes - wire::kTagBytes);
      job.tag = bytes.data() + bytes.size() - wire::kTagBytes;
    }
    run_cipher(static_cast<const GcmKey&>(*key), {jobs.data(), count});
    for (std::size_t i = 0; i < count; ++i) {
      frames[i].authentic = jobs[i].done;
    }
    frames = frames.subspan(count);
  }
}

}  // namespace sluice::dpdk
