#include "drivers/guest/qemu/command_line.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace sluice::guest::qemu {
namespace {

using Args = std::vector<std::string>;

Definition guest_with(const Args& args) {
  Definition definition;
  definition.name = "web";
  definition.memory_bytes = 512U << 20U;
  definition.qemu_args = args;
  return definition;
}

// The values of option `name`, in order.
Args values_of(const Args& argv, const std::string& name) {
  Args values;
  for (std::size_t i = 0; i + 1 < argv.size(); ++i) {
    if (argv[i] == name) values.push_back(argv[i + 1]);
  }
  return values;
}

TEST(CommandLine, AddsRamMonitorAndNothingElseToTheUsersArguments) {
  const Args argv = build_argv(guest_with({"-machine", "q35", "-nographic"}),
                               {"/usr/bin/qemu", "sluice-ram", "", "/run/q.sock", 3, false});
  EXPECT_EQ(argv,
            (Args{"/usr/bin/qemu", "-machine", "q35", "-nographic", "-name", "guest=web", "-object",
                  "memory-backend-file,id=sluice-ram,size=512M,share=on,mem-path=/proc/self/fd/3",
                  "-machine", "memory-backend=sluice-ram", "-m", "size=512M", "-qmp",
                  "unix:/run/q.sock,server=on,wait=off"}));
}

TEST(CommandLine, TwinWaitsPausedAndHasTheVersionedMachine) {
  const Args argv = build_argv(guest_with({"-M", "q35", "-name", "x"}),
                               {"qemu", "pc.ram", "pc-q35-7.2", "/run/q.sock", 3, true});
  EXPECT_EQ(values_of(argv, "-machine"), Args{"type=pc-q35-7.2,memory-backend=pc.ram"});
  EXPECT_EQ(values_of(argv, "-incoming"), Args{"defer"});
  EXPECT_EQ(values_of(argv, "-name"), Args{"x"});
  EXPECT_EQ(values_of(argv, "-display"), Args{"none"});
  EXPECT_NE(std::find(argv.begin(), argv.end(), "-S"), argv.end());
}

TEST(CommandLine, RefusesWhatTheAgentOwnsByName) {
  const std::vector<Args> refused = {{"-m", "1G"},
                                     {"--m", "1G"},
                                     {"-incoming", "defer"},
                                     {"-qmp", "stdio"},
                                     {"-qmp-pretty", "stdio"},
                                     {"-S"},
                                     {"-mem-path", "/x"},
                                     {"-mem-prealloc"},
                                     {"-daemonize"},
                                     {"-preconfig"},
                                     {"-loadvm", "x"},
                                     {"-readconfig", "x"},
                                     {"-object", "memory-backend-ram,id=r,size=1G"},
                                     {"-object", "{\"qom-type\":\"memory-backend-memfd\"}"},
                                     {"-machine", "q35,memory-backend=r"},
                                     {"-M", "q35,memory-backend=r"},
                                     {"-mon", "chardev=c,mode=control"},
                                     {"-numa", "node,memdev=r"},
                                     {"-netdev", "tap,id=n,fd=7"},
                                     {"-add-fd", "fd=3,set=1"}};
  for (const Args& args : refused) {
    Args whole = {"-machine", "q35", "-snapshot"};
    whole.insert(whole.end(), args.begin(), args.end());
    const auto checked = check_user_args(whole);
    ASSERT_FALSE(checked) << args.front();
    EXPECT_EQ(checked.error().kind, ErrorKind::kInvalid);
    const std::string name = args.front().substr(args.front().find_first_not_of('-'));
    EXPECT_NE(checked.error().message.find("-" + name), std::string::npos)
        << checked.error().message;
  }
}

TEST(CommandLine, ValuesAreNotTakenForOptions) {
  EXPECT_TRUE(check_user_args(
      {"-append", "-m", "-device", "virtio-net,netdev=n", "-netdev", "user,id=n", "disk.img"}));
  EXPECT_TRUE(
      check_user_args({"-object", "iothread,id=io", "-machine", "q35,accel=tcg", "-nographic"}));
  EXPECT_TRUE(check_user_args({}));
}

TEST(CommandLine, AdoptedGuestsArgumentsLoseWhatTheAgentAdds) {
  const auto kept =
      strip_owned_args({"-name",       "web",
                        "-machine",    "q35,memory-backend=ram0,accel=tcg",
                        "-m",          "512M",
                        "-object",     "memory-backend-file,id=ram0,size=512M,share=on,mem-path=/x",
                        "-chardev",    "socket,id=qmp0,path=/q,server=on",
                        "-mon",        "chardev=qmp0,mode=control",
                        "-chardev",    "null,id=c1",
                        "-qmp",        "unix:/r,server=on",
                        "-nodefaults", "-S",
                        "-incoming",   "defer",
                        "-daemonize",  "-pidfile",
                        "/p",          "disk.img",
                        "-machine",    "memory-backend=ram0"});
  ASSERT_TRUE(kept) << kept.error().message;
  EXPECT_EQ(*kept, (Args{"-name", "web", "-machine", "q35,accel=tcg", "-chardev", "null,id=c1",
                         "-nodefaults", "disk.img"}));
  EXPECT_TRUE(check_user_args(*kept));
}

TEST(CommandLine, AdoptionRefusesWhatATwinCannotBeGiven) {
  for (const Args& args : {Args{"-m", "512M,maxmem=1G"}, Args{"-netdev", "tap,id=n,fds=4:5"},
                           Args{"-numa", "node,memdev=r"}, Args{"-readconfig", "f"}}) {
    const auto kept = strip_owned_args(args);
    ASSERT_FALSE(kept) << args.front();
    EXPECT_EQ(kept.error().kind, ErrorKind::kUnsupported);
  }
}

TEST(CommandLine, FindsWhatRunsProgramsOrOpensAMonitorToTheNetwork) {
  const std::vector<Args> found = {
      {"-netdev", "tap,id=n,script=/tmp/x"},
      {"-netdev", "tap,id=n,script=no,downscript=/tmp/x"},
      {"-nic", "tap,helper=/tmp/x"},
      {"-net", "bridge,helper=/tmp/x"},
      {"-netdev", "user,id=n,smb=/etc"},
      {"-netdev", "user,id=n,guestfwd=tcp:10.0.2.1:80-cmd:id"},
      {"-netdev", R"({"type":"tap","id":"n","script":"/tmp/x"})"},
      {"-netdev", R"({"type":"tap","id":"n","\u0073cript":"/tmp/x"})"},
      {"-plugin", "/tmp/x.so"},
      {"--plugin", "file=/tmp/x.so"},
      {"-monitor", "tcp:0.0.0.0:4444,server=on"},
      {"-serial", "mon:telnet::4444,server=on"},
      {"-chardev", "socket,id=m,host=0.0.0.0,port=44,server=on", "-mon", "chardev=m,mode=readline"},
      {"-chardev", "udp,id=m,port=44", "-mon", "m"},
      {"-gdb", "tcp::1234"},
      {"-s"},
      {"-semihosting-config", "enable=on"},
      // A flag that this parser does not know must not hide what follows.
      {"-some-new-flag", "-plugin", "/tmp/x.so"},
      {"-some-new-flag", "-incoming", "exec:id"}};
  for (const Args& args : found) EXPECT_TRUE(program_option(args)) << testing::PrintToString(args);
  EXPECT_EQ(*program_option({"-nodefaults", "-netdev", "tap,script=/tmp/x"}),
            "-netdev tap,script=/tmp/x");
}

TEST(CommandLine, LeavesOrdinaryGuestsAlone) {
  const std::vector<Args> ordinary = {
      {},
      {"-machine", "q35", "-accel", "kvm", "-nographic", "-monitor", "none", "-serial",
       "mon:stdio"},
      {"-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no", "-device", "virtio-net,netdev=n"},
      {"-netdev", "user,id=n,hostfwd=tcp::2222-:22"},
      {"-drive", "file=/var/lib/disk.qcow2,cache=none", "-kernel", "/boot/k", "-append", "init=/x"},
      {"-chardev", "socket,id=s,host=192.0.2.1,port=44", "-serial", "chardev:s"},
      {"-chardev", "socket,id=m,path=/run/m,server=on,wait=off", "-mon",
       "chardev=m,mode=readline"}};
  for (const Args& args : ordinary) EXPECT_FALSE(program_option(args)) << *program_option(args);
}

TEST(CommandLine, MatchesBinariesByDirectoryAndName) {
  const std::vector<std::string> allowed = {"/usr/bin/qemu-system-*", "/opt/qemu/bin/qemu"};
  EXPECT_TRUE(is_allowed_binary("/usr/bin/qemu-system-x86_64", allowed));
  EXPECT_TRUE(is_allowed_binary("/opt/qemu/bin/qemu", allowed));
  for (const char* path :
       {"/usr/bin/python3", "/tmp/qemu-system-x86_64", "/usr/bin/qemu-system-x/../python3",
        "/usr/bin/qemu-system-x/evil", "qemu-system-x86_64", "/opt/qemu/bin/qemu2", ""})
    EXPECT_FALSE(is_allowed_binary(path, allowed)) << path;
  EXPECT_FALSE(is_allowed_binary("/usr/bin/qemu-system-x86_64", {}));
}

}  // namespace
}  // namespace sluice::guest::qemu
