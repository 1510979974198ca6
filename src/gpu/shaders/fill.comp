// SPDX-License-Identifier: MIT
// Fill a buffer with data that no memory controller can compress and whose sum is known without
// reading it: word j of tile t is H(t) * R(j) mod 2^32, so the words of a tile add up to
// H(t) * (R(0) + ... + R(4095)). The host computes that with the same functions (expected_sum in
// vk_measure.c).
#version 450

layout(local_size_x = 128) in;

layout(std430, set = 0, binding = 0) writeonly restrict buffer Data { uvec4 data[]; };

layout(push_constant) uniform Push
{
    uint n_tiles;
    uint first_tile; // of this buffer in the whole
    uint first_sum;  // for read.comp
};

// The finalizer of MurmurHash3 (Austin Appleby, public domain): every bit of x reaches every bit of
// the result.
uint mix32(uint x)
{
    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    x = (x ^ (x >> 13)) * 0xc2b2ae35u;
    return x ^ (x >> 16);
}

void main()
{
    for (uint tile = gl_WorkGroupID.x; tile < n_tiles; tile += gl_NumWorkGroups.x) {
        uint factor = mix32((first_tile + tile) ^ 0x9e3779b9u) | 1u;
        for (uint i = gl_LocalInvocationID.x; i < 1024u; i += 128u) {
            uint j = i * 4u + 1u;
            uvec4 words = uvec4(mix32(j), mix32(j + 1u), mix32(j + 2u), mix32(j + 3u));
            data[tile * 1024u + i] = factor * words;
        }
    }
}
