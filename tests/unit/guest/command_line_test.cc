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

}  // namespace
}  // namespace sluice::guest::qemu
