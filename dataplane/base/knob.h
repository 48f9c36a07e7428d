#pragma once
#include <cstdlib>
inline int knob(const char* n, int d) { const char* v = getenv(n); return v ? atoi(v) : d; }
