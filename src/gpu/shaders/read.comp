// SPDX-License-Identifier: MIT
// Read a buffer once, as fast as its memory allows. Each work group takes tiles of 16 KiB in turn;
// a thread has eight loads of 16 bytes in flight, neighbours read neighbouring addresses. All words
// go into the sum that the group leaves behind, so that no load can be left out: the host knows
// what the sums must add up to (fill.comp).
#version 450

layout(local_size_x = 128) in;

layout(std430, set = 0, binding = 0) readonly restrict buffer Data { uvec4 data[]; };
layout(std430, set = 0, binding = 1) writeonly restrict buffer Sums { uint sums[]; };

layout(push_constant) uniform Push
{
    uint n_tiles;
    uint first_tile; // for fill.comp
    uint first_sum;  // of this buffer's groups
};

shared uint part[128];

void main()
{
    uint lane = gl_LocalInvocationID.x;
    uvec4 sum = uvec4(0);
    for (uint tile = gl_WorkGroupID.x; tile < n_tiles; tile += gl_NumWorkGroups.x) {
        uint at = tile * 1024u + lane;
        uvec4 a = data[at];
        uvec4 b = data[at + 128u];
        uvec4 c = data[at + 256u];
        uvec4 d = data[at + 384u];
        uvec4 e = data[at + 512u];
        uvec4 f = data[at + 640u];
        uvec4 g = data[at + 768u];
        uvec4 h = data[at + 896u];
        sum += ((a + b) + (c + d)) + ((e + f) + (g + h));
    }
    part[lane] = (sum.x + sum.y) + (sum.z + sum.w);
    for (uint n = 64u; n > 0u; n /= 2u) {
        barrier();
        if (lane < n)
            part[lane] += part[lane + n];
    }
    if (lane == 0u)
        sums[first_sum + gl_WorkGroupID.x] = part[0];
}
