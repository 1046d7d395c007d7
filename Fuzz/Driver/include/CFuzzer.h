// The entry of libFuzzer as a library (its documentation: "Using libFuzzer as a library").
#pragma once
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *count, char ***arguments, int (*subject)(const uint8_t *bytes, size_t count));
