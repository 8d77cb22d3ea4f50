/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4). */
#ifndef SENTINEL_RUNTIME_SHA256_H
#define SENTINEL_RUNTIME_SHA256_H

#include <cstddef>
#include <cstdint>
#include <string>

namespace sentinel
{

class Sha256
{
public:
	void add(const std::string &text);
	/* The digest in hexadecimal. Call it once, last. */
	std::string hex();

private:
	void block(const unsigned char *data);

	uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	unsigned char buffer_[64];
	uint64_t length_ = 0;
};

} // namespace sentinel

#endif
