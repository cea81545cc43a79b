// From scores to labels, on the network's grid and on the source's.
//
// Scores are (channels, rows, y, x), a slab of the network's grid whose first row is `first_row` of the whole; a channel
// begins `channel_stride` elements after the one before. Channel 0 is background.
#include "shared.cuh"

KERNEL argmax(const float *__restrict__ scores, Label *__restrict__ labels, int channels, Place channel_stride,
              Place voxels) {
    EACH(index, voxels) {
        float best;
        labels[index] = best_of(scores, channels, channel_stride, index, best);
    }
}

// Where the rules on labels changed one, its score leads by `margin`.
KERNEL agree(float *__restrict__ scores, const Label *__restrict__ labels, int channels, Place channel_stride,
             Place voxels, float margin) {
    EACH(index, voxels) {
        float best;
        const Label before = best_of(scores, channels, channel_stride, index, best);
        if (labels[index] != before) scores[labels[index] * channel_stride + index] = best + margin;
    }
}

// Probability that a voxel is not background.
KERNEL foreground(const float *__restrict__ scores, float *__restrict__ shares, int channels, Place channel_stride,
                  Place voxels) {
    EACH(index, voxels) {
        float best;
        best_of(scores, channels, channel_stride, index, best);
        const float background = expf(scores[index] - best);
        float sum = background;
        for (int channel = 1; channel < channels; ++channel)
            sum = sum + expf(scores[channel * channel_stride + index] - best);
        shares[index] = 1.0f - background / sum;
    }
}

// Two neighbours along each axis of a voxel of the finer grid: place of the lower, and both weights.
struct Corner {
    Place at, step_z, step_y, step_x;
    float z[2], y[2], x[2];
};

// Beyond a second tap of weight 0 nothing is read: there may be no neighbour.
DEVICE Corner corner_of(const int *starts, const float *weights, int fine_z, int fine_y, int z, int y, int x,
                        int first_row, int size_y, int size_x) {
    const int *starts_y = starts + fine_z, *starts_x = starts_y + fine_y;
    const float *weights_y = weights + 2 * (Place)fine_z, *weights_x = weights_y + 2 * (Place)fine_y;
    Corner one;
    one.at = ((Place)(starts[z] - first_row) * size_y + starts_y[y]) * size_x + starts_x[x];
    for (int k = 0; k < 2; ++k) {
        one.z[k] = weights[2 * (Place)z + k];
        one.y[k] = weights_y[2 * (Place)y + k];
        one.x[k] = weights_x[2 * (Place)x + k];
    }
    one.step_z = one.z[1] == 0.0f ? 0 : (Place)size_y * size_x;
    one.step_y = one.y[1] == 0.0f ? 0 : size_x;
    one.step_x = one.x[1] == 0.0f ? 0 : 1;
    return one;
}

// Along z, then y, then x, as imaging.resample does.
DEVICE float interpolated(const float *values, const Corner &corner) {
    float columns[2];
    for (int k = 0; k < 2; ++k) {
        float rows[2];
        for (int j = 0; j < 2; ++j) {
            const Place at = corner.at + j * corner.step_y + k * corner.step_x;
            rows[j] = corner.z[1] == 0.0f ? values[at] : values[at] * corner.z[0] + values[at + corner.step_z] * corner.z[1];
        }
        columns[k] = rows[0] * corner.y[0] + rows[1] * corner.y[1];
    }
    return columns[0] * corner.x[0] + columns[1] * corner.x[1];
}

// Labels of the source's grid: the voxel at canonical (z, y, x), z from `from_z` on, goes to target[base + z * step_z +
// y * step_y + x * step_x]. `coarse` holds the labels of the scores: where all neighbours have one label, linear
// interpolation cannot bring up another, and the channels are not looked at. Tables: 2 weights a voxel, z, y, x.
KERNEL labels_back(const float *__restrict__ scores, const Label *__restrict__ coarse, Label *__restrict__ target,
                   int channels, Place channel_stride, int first_row, int size_y, int size_x, int fine_z, int fine_y,
                   int fine_x, int from_z, int count_z, Place base, Place step_z, Place step_y, Place step_x,
                   const int *__restrict__ starts, const float *__restrict__ weights) {
    EACH(index, (Place)count_z * fine_y * fine_x) {
        int z, y, x;
        split(index, fine_y, fine_x, z, y, x);
        z += from_z;
        const Corner corner = corner_of(starts, weights, fine_z, fine_y, z, y, x, first_row, size_y, size_x);
        Label label = coarse[corner.at];
        int same = 1;
        for (int k = 1; k < 8; ++k)
            same &= label == coarse[corner.at + (k >> 2) * corner.step_z + (k >> 1 & 1) * corner.step_y +
                                    (k & 1) * corner.step_x];
        if (!same) {
            float best = interpolated(scores, corner);
            label = 0;
            for (int channel = 1; channel < channels; ++channel) {
                const float score = interpolated(scores + channel * channel_stride, corner);
                if (score > best) {
                    best = score;
                    label = (Label)channel;
                }
            }
        }
        target[base + z * step_z + y * step_y + x * step_x] = label;
    }
}

// Values between 0 and 1 on the source's grid, 65535 for 1; places and tables as above.
KERNEL shares_back(const float *__restrict__ shares, unsigned short *__restrict__ target, int first_row, int size_y,
                   int size_x, int fine_z, int fine_y, int fine_x, int from_z, int count_z, Place base, Place step_z,
                   Place step_y, Place step_x, const int *__restrict__ starts, const float *__restrict__ weights) {
    EACH(index, (Place)count_z * fine_y * fine_x) {
        int z, y, x;
        split(index, fine_y, fine_x, z, y, x);
        z += from_z;
        float share = interpolated(
            shares, corner_of(starts, weights, fine_z, fine_y, z, y, x, first_row, size_y, size_x));
        share = share < 0.0f ? 0.0f : share > 1.0f ? 1.0f : share;
        target[base + z * step_z + y * step_y + x * step_x] = (unsigned short)rintf(share * 65535.0f);
    }
}
