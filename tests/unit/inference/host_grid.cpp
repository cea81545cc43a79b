// Where a thread stands in its grid, when kernels are compiled for the host: a test places one after the other.
struct Dim {
    unsigned x, y, z;
};
Dim blockIdx, blockDim, gridDim, threadIdx;

extern "C" void place(unsigned block, unsigned blocks, unsigned thread, unsigned threads) {
    blockIdx.x = block;
    gridDim.x = blocks;
    threadIdx.x = thread;
    blockDim.x = threads;
}
