// What every kernel shares: how it is spelt for nvcc and for a compiler of the host, and the walk over a grid.
//
// The arithmetic is that of the CPU path, operation by operation: multiply, then add, in float32, never fused
// (-fmad=false; -ffp-contract=off on the host). So a device gives the bits that imaging/resample and inference/tiles
// give. Sizes of one axis fit 32 bits; counts of voxels and places of elements take 64.
#pragma once

#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__
#else
// The host: a test places one thread of a grid after the other.
#include <cmath>
#define KERNEL extern "C" void
#define DEVICE static inline
#define __restrict__
struct Dim {
    unsigned x, y, z;
};
extern Dim blockIdx, blockDim, gridDim, threadIdx;
#endif

typedef long long Place;
typedef unsigned char Label;

// Every thread takes every so-many-th element: any grid covers any count.
#define EACH(index, count)                                                                                          \
    for (Place index = (Place)blockIdx.x * blockDim.x + threadIdx.x, stride_ = (Place)gridDim.x * blockDim.x;       \
         index < (count); index += stride_)

// z, y and x of the index-th element of an array whose last two axes have these sizes.
DEVICE void split(Place index, int size_y, int size_x, int &z, int &y, int &x) {
    x = (int)(index % size_x);
    y = (int)(index / size_x % size_y);
    z = (int)(index / size_x / size_y);
}

DEVICE int chosen(int axis, int z, int y, int x) { return axis == 0 ? z : axis == 1 ? y : x; }

DEVICE Place chosen(int axis, Place z, Place y, Place x) { return axis == 0 ? z : axis == 1 ? y : x; }

// Highest score of a voxel and its label; ties go to the lower one.
DEVICE Label best_of(const float *scores, int channels, Place channel_stride, Place at, float &best) {
    Label label = 0;
    best = scores[at];
    for (int channel = 1; channel < channels; ++channel) {
        const float score = scores[channel * channel_stride + at];
        if (score > best) {
            best = score;
            label = (Label)channel;
        }
    }
    return label;
}
