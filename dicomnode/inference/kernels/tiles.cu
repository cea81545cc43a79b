// Tiles: patches out of the network's input, and their logits back into the scores of the whole.
//
// The weights of a tile are the product of three rows that sum to one over all tiles (inference/tiles): nothing is
// divided at the end. Patches are added one after the other, in the order of the plan: no atomics, equal bits each time.
#include "shared.cuh"

// batch: (patches, 1, tile_z, tile_y, tile_x); origins: (patches, 3).
KERNEL gather(const float *__restrict__ volume, float *__restrict__ batch, const int *__restrict__ origins,
              int patches, int size_y, int size_x, int tile_z, int tile_y, int tile_x) {
    const Place tile = (Place)tile_z * tile_y * tile_x;
    EACH(index, patches * tile) {
        int z, y, x;
        split(index % tile, tile_y, tile_x, z, y, x);
        const int *origin = origins + index / tile * 3;
        batch[index] = volume[((Place)(origin[0] + z) * size_y + origin[1] + y) * size_x + origin[2] + x];
    }
}

// logits: (channels, tile_z, tile_y, tile_x) of one patch, `first` elements into the buffer; total: (channels, rows,
// size_y, size_x), in which the patch begins at (row, y0, x0).
KERNEL accumulate(const float *__restrict__ logits, float *__restrict__ total, const float *__restrict__ weights_z,
                  const float *__restrict__ weights_y, const float *__restrict__ weights_x, Place first, int channels,
                  int rows, int size_y, int size_x, int tile_z, int tile_y, int tile_x, int row, int y0, int x0) {
    const Place tile = (Place)tile_z * tile_y * tile_x;
    EACH(index, channels * tile) {
        int z, y, x;
        split(index % tile, tile_y, tile_x, z, y, x);
        const float weight = weights_z[z] * weights_y[y] * weights_x[x];
        const Place channel = index / tile;
        const Place at = ((channel * rows + row + z) * size_y + y0 + y) * size_x + x0 + x;
        total[at] = total[at] + logits[first + index] * weight;
    }
}
