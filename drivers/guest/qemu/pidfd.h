// <sys/pidfd.h> for C++: glibc 2.36's lacks the linkage declaration.
#pragma once

#include <csignal>
#include <cstdint>

extern "C" {
#include <sys/pidfd.h>
}
