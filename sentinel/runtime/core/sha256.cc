/* SPDX-License-Identifier: Apache-2.0 */
#include "sha256.h"

#include <cstdio>

namespace sentinel
{
namespace
{

/* The first 32 bits of the fractions of the cube roots of the first 64 primes. */
const uint32_t kConstants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2};

uint32_t rotate_right(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

} // namespace

void Sha256::block(const unsigned char *data)
{
	uint32_t w[64], v[8];

	for (int i = 0; i < 16; i++, data += 4)
		w[i] = uint32_t(data[0]) << 24 | data[1] << 16 | data[2] << 8 | data[3];
	for (int i = 16; i < 64; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];
		w[i] = w[i - 16] + (rotate_right(a, 7) ^ rotate_right(a, 18) ^ a >> 3) + w[i - 7] +
		       (rotate_right(b, 17) ^ rotate_right(b, 19) ^ b >> 10);
	}
	for (int i = 0; i < 8; i++)
		v[i] = state_[i];
	for (int i = 0; i < 64; i++) {
		uint32_t e = v[4], a = v[0];
		uint32_t t1 = v[7] +
			      (rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25)) +
			      ((e & v[5]) ^ (~e & v[6])) + kConstants[i] + w[i];
		uint32_t t2 = (rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22)) +
			      ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
		for (int j = 7; j > 0; j--)
			v[j] = v[j - 1];
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		state_[i] += v[i];
}

void Sha256::add(const std::string &text)
{
	for (unsigned char c : text) {
		buffer_[length_++ % 64] = c;
		if (length_ % 64 == 0)
			block(buffer_);
	}
}

std::string Sha256::hex()
{
	uint64_t bits = length_ * 8;
	std::string end(1, char(0x80)), digest;

	while ((length_ + end.size()) % 64 != 56)
		end += char(0);
	for (int i = 56; i >= 0; i -= 8)
		end += char(bits >> i);
	add(end);
	for (uint32_t word : state_) {
		char text[9];
		snprintf(text, sizeof(text), "%08x", word);
		digest += text;
	}
	return digest;
}

} // namespace sentinel
