// The processors a guest can be shown, by the names of the psABI.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace shimbed {

enum class Processor : uint8_t { v2, v3 };

// What x86-64-v3 needs and the host's processor, or its kernel, does not have; empty where guests can be shown it.
std::vector<std::string> hostLacksForV3();

// State components (XCR0), and what a standard image of them all is made of (SDM vol. 1, 13.4).
constexpr uint64_t STATE_X87 = 1, STATE_SSE = 2, STATE_AVX = 4, STATE_ALL = 7;
constexpr uint32_t XSAVE_LEGACY = 512, XSAVE_AVX = 576, XSAVE_SIZE = 832;

}  // namespace shimbed
