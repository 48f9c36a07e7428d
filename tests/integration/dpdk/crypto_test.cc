// AES-256-GCM through DPDK's CPU path: published vectors, OpenSSL as a second opinion, and what
// must not open.
#include "drivers/dpdk/crypto.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <string_view>
#include <vector>

#include "dataplane/base/random.h"
#include "drivers/dpdk/eal.h"

namespace sluice::dpdk {
namespace {

using Bytes = std::vector<std::byte>;

Bytes from_hex(std::string_view text) {
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

Secret to_key(const Bytes& bytes) {
  Secret key;
  std::copy(bytes.begin(), bytes.end(), key.bytes().begin());
  return key;
}

Bytes random_bytes(Random& random, std::size_t count) {
  Bytes bytes(count);
  std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<std::byte>(random.next()); });
  return bytes;
}

// The EAL starts once in a process.
const Crypto& crypto() {
  static const auto started = [] {
    const auto eal = start_eal({Hugepages::kNo, 64UL << 20, "sluice-crypto-test", "", ""});
    EXPECT_TRUE(eal) << eal.error().message;
    return Crypto::start();
  }();
  EXPECT_TRUE(started) << started.error().message;
  return **started;
}

std::unique_ptr<GcmKey> make_key(const Secret& secret, KeyUse use,
                                 std::size_t associated_bytes = wire::kFrameHeaderBytes) {
  auto key = crypto().make_key(secret, use, associated_bytes);
  EXPECT_TRUE(key) << key.error().message;
  return std::move(*key);
}

// Test cases 13 to 16 of "The Galois/Counter Mode of Operation (GCM)", McGrew and Viega, submitted
// to NIST; those of NIST's SP 800-38D validation with 256-bit keys.
struct Vector {
  const char* key;
  const char* nonce;
  const char* associated;
  const char* plain;
  const char* sealed;
  const char* tag;
};
constexpr const char* kZeroKey = "0000000000000000000000000000000000000000000000000000000000000000";
constexpr const char* kKey = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
const Vector gcm_vectors[] = {
    {kZeroKey, "000000000000000000000000", "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
    {kZeroKey, "000000000000000000000000", "", "00000000000000000000000000000000",
     "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
    {kKey, "cafebabefacedbaddecaf888", "",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6"
     "b525b16aedf5aa0de657ba637b391aafd255",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b105682"
     "8838c5f61e6393ba7a0abcc9f662898015ad",
     "b094dac5d93471bdec1a502270e3cc6c"},
    {kKey, "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6"
     "b525b16aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b105682"
     "8838c5f61e6393ba7a0abcc9f662",
     "76fc6ece0f4e1768cddf8853bb2d551b"},
};

TEST(Crypto, AgreesWithPublishedVectors) {
  for (const Vector& vector : gcm_vectors) {
    const Secret secret = to_key(from_hex(vector.key));
    Bytes associated = from_hex(vector.associated);
    Bytes text = from_hex(vector.plain);
    Bytes tag(wire::kTagBytes);
    const Bytes nonce = from_hex(vector.nonce);
    CipherJob job;
    std::copy(nonce.begin(), nonce.end(), job.nonce.begin());
    job.associated = associated.data();
    job.text = text;
    job.tag = tag.data();
    run_cipher(*make_key(secret, KeyUse::kSeal, associated.size()), {&job, 1});
    EXPECT_TRUE(job.done);
    EXPECT_EQ(text, from_hex(vector.sealed));
    EXPECT_EQ(tag, from_hex(vector.tag));
    run_cipher(*make_key(secret, KeyUse::kOpen, associated.size()), {&job, 1});
    EXPECT_TRUE(job.done);
    EXPECT_EQ(text, from_hex(vector.plain));
    tag[0] ^= std::byte{1};
    run_cipher(*make_key(secret, KeyUse::kOpen, associated.size()), {&job, 1});
    EXPECT_FALSE(job.done);
  }
}

// ---- whole frames ----

// A frame with room for its tag. Only the header need make sense.
Bytes make_frame(Sequence sequence, const Bytes& body) {
  wire::FrameHeader header;
  header.session = 0x5E55'1011;
  header.flow = 3;
  header.sequence = sequence;
  Bytes frame(wire::kDataPrefixBytesMax);
  const wire::Record record{wire::RecordType::kZero, 0, 1, 0, 0, 7};
  (void)wire::encode_data_prefix(header, {&record, 1}, frame, wire::Protection::kSealed);
  frame.resize(wire::kFrameHeaderBytes);
  frame.insert(frame.end(), body.begin(), body.end());
  frame.resize(frame.size() + wire::kTagBytes);
  return frame;
}

Bytes sealed_by_openssl(Bytes frame, const Secret& secret, Sequence sequence) {
  unsigned char nonce[wire::kNonceBytes] = {};
  for (std::size_t i = 0; i < 8; ++i) {
    nonce[11 - i] = static_cast<unsigned char>(sequence >> (8 * i));
  }
  auto* at = reinterpret_cast<unsigned char*>(frame.data());
  const auto body_bytes =
      static_cast<int>(frame.size() - wire::kFrameHeaderBytes - wire::kTagBytes);
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  int written = 0;
  EXPECT_EQ(
      EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nullptr,
                         reinterpret_cast<const unsigned char*>(secret.bytes().data()), nonce),
      1);
  EVP_EncryptUpdate(context, nullptr, &written, at, wire::kFrameHeaderBytes);
  at += wire::kFrameHeaderBytes;
  EVP_EncryptUpdate(context, at, &written, at, body_bytes);
  EVP_EncryptFinal_ex(context, at + body_bytes, &written);
  EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, wire::kTagBytes, at + body_bytes);
  EVP_CIPHER_CTX_free(context);
  return frame;
}

TEST(Crypto, SealsBurstsOfFramesAsOpensslDoesAndOpensThem) {
  constexpr std::uint64_t kSeed = 42;
  Random random(kSeed);
  const Secret secrets[] = {to_key(random_bytes(random, 32)), to_key(random_bytes(random, 32))};
  const std::unique_ptr<GcmKey> seal[] = {make_key(secrets[0], KeyUse::kSeal),
                                          make_key(secrets[1], KeyUse::kSeal)};
  const std::unique_ptr<GcmKey> open[] = {make_key(secrets[0], KeyUse::kOpen),
                                          make_key(secrets[1], KeyUse::kOpen)};
  // More frames than fit one call, of two flows in turn, of all lengths.
  std::vector<Bytes> plain;
  std::vector<Bytes> frames;
  std::vector<std::size_t> owner;
  for (std::size_t i = 0; i < 3 * kCipherBurstMax; ++i) {
    plain.push_back(
        make_frame(1 + i * 0x0123'4567'89ABULL, random_bytes(random, random.below(9000))));
    owner.push_back(random.below(2));
  }
  frames = plain;
  std::vector<port::SealedFrame> burst;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    burst.push_back({frames[i], seal[owner[i]].get()});
  }
  process_frames(burst);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    EXPECT_TRUE(burst[i].authentic);
    ASSERT_EQ(frames[i],
              sealed_by_openssl(plain[i], secrets[owner[i]], 1 + i * 0x0123'4567'89ABULL))
        << "frame " << i << " of seed " << kSeed;
    burst[i] = {frames[i], open[owner[i]].get()};
  }
  process_frames(burst);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    EXPECT_TRUE(burst[i].authentic);
    frames[i].resize(frames[i].size() - wire::kTagBytes);
    plain[i].resize(frames[i].size());
    ASSERT_EQ(frames[i], plain[i]);
  }
}

TEST(Crypto, OpensNothingThatWasAlteredAnywhereOrSealedWithAnotherKey) {
  Random random(7);
  const Secret secret = to_key(random_bytes(random, 32));
  const auto seal = make_key(secret, KeyUse::kSeal);
  const auto open = make_key(secret, KeyUse::kOpen);
  const auto other = make_key(to_key(random_bytes(random, 32)), KeyUse::kOpen);
  Bytes genuine = make_frame(9, random_bytes(random, 100));
  port::SealedFrame frame{genuine, seal.get()};
  process_frames({&frame, 1});
  for (std::size_t bit = 0; bit < genuine.size() * 8; ++bit) {
    // Version and type: such a frame is not looked at so far.
    if (bit < 16) {
      continue;
    }
    Bytes altered = genuine;
    altered[bit / 8] ^= std::byte{1} << bit % 8;
    port::SealedFrame forged{altered, open.get()};
    process_frames({&forged, 1});
    ASSERT_FALSE(forged.authentic) << "bit " << bit;
  }
  Bytes copy = genuine;
  port::SealedFrame foreign{copy, other.get()};
  process_frames({&foreign, 1});
  EXPECT_FALSE(foreign.authentic);
  port::SealedFrame intact{genuine, open.get()};
  process_frames({&intact, 1});
  EXPECT_TRUE(intact.authentic);
}

TEST(Crypto, GivesKeysBackAndSaysWhenThereAreTooMany) {
  Secret secret;
  for (int round = 0; round < 2; ++round) {
    std::vector<std::unique_ptr<GcmKey>> keys;
    for (;;) {
      auto key = crypto().make_key(secret, KeyUse::kSeal);
      if (!key) {
        EXPECT_EQ(key.error().kind, ErrorKind::kNoCapacity);
        break;
      }
      keys.push_back(std::move(*key));
      ASSERT_LT(keys.size(), 100'000U);
    }
    EXPECT_GE(keys.size(), 500U) << "round " << round;
  }
}

}  // namespace
}  // namespace sluice::dpdk
