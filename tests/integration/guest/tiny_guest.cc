#include "tests/integration/guest/tiny_guest.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <span>
#include <string_view>
#include <sys/mman.h>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace sluice::guest::qemu::test {
namespace {

constexpr std::uint64_t kCounterAddress = 0x10000;
constexpr std::size_t kRomBytes = 65536;
constexpr std::size_t kSectorBytes = 512;

using Code = std::vector<std::uint8_t>;

void append(Code& code, std::span<const std::uint8_t> more) {
  code.insert(code.end(), more.begin(), more.end());
}

constexpr std::array<std::uint8_t, 10> kSetUp = {
    0xB8, 0x00, 0x10,  // mov ax, 0x1000
    0x8E, 0xD8,        // mov ds, ax      ; the counter's segment
    0xB8, 0x00, 0x20,  // mov ax, 0x2000
    0x8E, 0xC0,        // mov es, ax      ; the segment whose 16 pages are rewritten
};

constexpr std::array<std::uint8_t, 22> kCountAndRewrite = {
    0x66, 0xFF, 0x06, 0x00, 0x00,  // inc dword [0]
    0xA1, 0x00, 0x00,              // mov ax, [0]
    0x31, 0xFF,                    // xor di, di
    0xB9, 0x10, 0x00,              // mov cx, 16
    0x26, 0x89, 0x05,              // mov es:[di], ax
    0x81, 0xC7, 0x00, 0x10,        // add di, 0x1000
    0xE2, 0xF7,                    // loop to the mov
};

std::string write_image(const std::string& path, const Code& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(content.data()),
             static_cast<std::streamsize>(content.size()));
  return path;
}

std::string write_rom(const std::string& path) {
  Code code = {0xFA};  // cli
  append(code, kSetUp);
  append(code, kCountAndRewrite);
  code.insert(code.end(), {0xEB, 0xE8});  // jmp to the inc
  code.resize(kRomBytes);
  // The reset vector, 16 bytes below the end: a near jump to offset 0.
  const Code reset = {0xE9, 0x0D, 0x00};
  std::copy(reset.begin(), reset.end(), code.end() - 16);
  return write_image(path, code);
}

std::string write_boot_disk(const std::string& path) {
  Code code(kSetUp.begin(), kSetUp.end());
  code.insert(code.end(), {0xFB, 0xF4});  // sti; hlt
  append(code, kCountAndRewrite);
  code.insert(code.end(), {0xEB, 0xE7});  // jmp to the hlt
  code.resize(kSectorBytes - 2);
  code.insert(code.end(), {0x55, 0xAA});
  code.resize(1U << 20U);
  return write_image(path, code);
}

Definition definition_of(const std::string& machine) {
  Definition definition;
  definition.name = "tiny-" + machine;
  definition.driver = "qemu";
  definition.memory_bytes = 64U << 20U;
  definition.qemu_binary = "qemu-system-x86_64";
  definition.qemu_args = {"-machine", machine, "-accel", "tcg"};
  return definition;
}

}  // namespace

ScratchDirectory::ScratchDirectory() : path_("/dev/shm/sluice-test-XXXXXX") {
  if (mkdtemp(path_.data()) == nullptr) std::abort();
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

HostContext ScratchDirectory::host(const std::string& name) const {
  std::filesystem::create_directories(path_ + "/" + name);
  return {path_ + "/" + name, name};
}

Definition busy_guest(const ScratchDirectory& scratch, const std::string& machine) {
  Definition definition = definition_of(machine);
  const std::string rom = write_rom(scratch.path() + "/rom.bin");
  definition.qemu_args.insert(definition.qemu_args.end(), {"-bios", rom});
  return definition;
}

Definition idle_guest(const ScratchDirectory& scratch, const std::string& machine) {
  Definition definition = definition_of(machine);
  const std::string disk = write_boot_disk(scratch.path() + "/disk.raw");
  definition.qemu_args.insert(definition.qemu_args.end(),
                              {"-drive", "file=" + disk + ",format=raw", "-net", "none"});
  return definition;
}

std::uint32_t counter_of(const Guest& guest) {
  const Memory memory = guest.memory();
  std::uint32_t counter = 0;
  const auto count = pread(memory.memory_fd, &counter, sizeof(counter),
                           static_cast<off_t>(memory.offset + kCounterAddress));
  return count == static_cast<ssize_t>(sizeof(counter)) ? counter : 0;
}

bool counts_on(const Guest& guest) {
  const std::uint32_t before = counter_of(guest);
  for (int attempt = 0; attempt < 2000; ++attempt) {
    if (counter_of(guest) != before) return true;
    usleep(5000);
  }
  return false;
}

void copy_memory(const Guest& source, const Guest& destination) {
  const Memory from = source.memory();
  const Memory to = destination.memory();
  ASSERT_EQ(from.bytes, to.bytes);
  void* read = mmap(nullptr, from.bytes, PROT_READ, MAP_SHARED, from.memory_fd,
                    static_cast<off_t>(from.offset));
  void* write = mmap(nullptr, to.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, to.memory_fd,
                     static_cast<off_t>(to.offset));
  ASSERT_NE(read, MAP_FAILED);
  ASSERT_NE(write, MAP_FAILED);
  std::memcpy(write, read, from.bytes);
  munmap(read, from.bytes);
  munmap(write, to.bytes);
}

}  // namespace sluice::guest::qemu::test
