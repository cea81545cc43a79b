// From a volume as it lies in its source to the network's input: orientation, resampling, padding, window.
//
// One pass: each voxel of the input gathers its neighbours by tables of taps, axis nested in axis in the order in which
// imaging.resample takes them, so that the bits are the same. Orientation is nothing but the source's steps: its element
// at canonical (z, y, x) is source[base + z * step_z + y * step_y + x * step_x], steps negative where an axis is flipped.
#include "shared.cuh"

struct Axis {
    const int *starts;     // of each voxel: its first source index
    const float *weights;  // of each voxel: taps weights
    int taps;
    Place step;  // in the source, elements
};

struct Window {
    float lower, upper, inverse;  // inverse: 1 / (upper - lower)
    int centred;                  // to -1...1, else to 0...1
};

template <typename T>
DEVICE float innermost(const T *source, Place at, const Axis &axis, int index) {
    const float *weights = axis.weights + (Place)index * axis.taps;
    at += axis.starts[index] * axis.step;
    float sum = (float)source[at] * weights[0];
    for (int k = 1; k < axis.taps; ++k)
        if (weights[k] != 0.0f) sum = sum + (float)source[at + k * axis.step] * weights[k];
    return sum;
}

template <typename T>
DEVICE float middle(const T *source, Place at, const Axis &inner, const Axis &axis, int inner_index, int index) {
    const float *weights = axis.weights + (Place)index * axis.taps;
    at += axis.starts[index] * axis.step;
    float sum = innermost(source, at, inner, inner_index) * weights[0];
    for (int k = 1; k < axis.taps; ++k)
        if (weights[k] != 0.0f) sum = sum + innermost(source, at + k * axis.step, inner, inner_index) * weights[k];
    return sum;
}

DEVICE float windowed(float value, const Window &window) {
    value = value < window.lower ? window.lower : value;
    value = value > window.upper ? window.upper : value;
    value = (value - window.lower) * window.inverse;
    return window.centred ? value * 2.0f - 1.0f : value;
}

// target: (size_z, size_y, size_x); beyond (valid_z, valid_y, valid_x) it holds `pad`. Tables of the axes lie one after
// the other, z, y, x. first, second, third: which axis is summed innermost, and so on.
template <typename T>
DEVICE void resample(const T *source, float *target, Place base, Place step_z, Place step_y, Place step_x, int size_z,
                     int size_y, int size_x, int valid_z, int valid_y, int valid_x, const int *starts,
                     const float *weights, int taps_z, int taps_y, int taps_x, int first, int second, int third,
                     float pad, float lower, float upper, float inverse, int centred) {
    const int *starts_y = starts + valid_z, *starts_x = starts_y + valid_y;
    const float *weights_y = weights + (Place)valid_z * taps_z, *weights_x = weights_y + (Place)valid_y * taps_y;
    const Axis z_axis = {starts, weights, taps_z, step_z};
    const Axis y_axis = {starts_y, weights_y, taps_y, step_y};
    const Axis x_axis = {starts_x, weights_x, taps_x, step_x};
    const Axis a = first == 0 ? z_axis : first == 1 ? y_axis : x_axis;
    const Axis b = second == 0 ? z_axis : second == 1 ? y_axis : x_axis;
    const Axis c = third == 0 ? z_axis : third == 1 ? y_axis : x_axis;
    const Window window = {lower, upper, inverse, centred};
    EACH(index, (Place)size_z * size_y * size_x) {
        int z, y, x;
        split(index, size_y, size_x, z, y, x);
        float value = pad;
        if (z < valid_z && y < valid_y && x < valid_x) {
            const int i = chosen(first, z, y, x), j = chosen(second, z, y, x), k = chosen(third, z, y, x);
            const float *outer = c.weights + (Place)k * c.taps;
            const Place at = base + c.starts[k] * c.step;
            value = middle(source, at, a, b, i, j) * outer[0];
            for (int tap = 1; tap < c.taps; ++tap)
                if (outer[tap] != 0.0f) value = value + middle(source, at + tap * c.step, a, b, i, j) * outer[tap];
        }
        target[index] = windowed(value, window);
    }
}

KERNEL resample_i16(const short *__restrict__ source, float *__restrict__ target, Place base, Place step_z,
                    Place step_y, Place step_x, int size_z, int size_y, int size_x, int valid_z, int valid_y,
                    int valid_x, const int *__restrict__ starts, const float *__restrict__ weights, int taps_z,
                    int taps_y, int taps_x, int first, int second, int third, float pad, float lower, float upper,
                    float inverse, int centred) {
    resample(source, target, base, step_z, step_y, step_x, size_z, size_y, size_x, valid_z, valid_y, valid_x, starts,
             weights, taps_z, taps_y, taps_x, first, second, third, pad, lower, upper, inverse, centred);
}

KERNEL resample_f32(const float *__restrict__ source, float *__restrict__ target, Place base, Place step_z,
                    Place step_y, Place step_x, int size_z, int size_y, int size_x, int valid_z, int valid_y,
                    int valid_x, const int *__restrict__ starts, const float *__restrict__ weights, int taps_z,
                    int taps_y, int taps_x, int first, int second, int third, float pad, float lower, float upper,
                    float inverse, int centred) {
    resample(source, target, base, step_z, step_y, step_x, size_z, size_y, size_x, valid_z, valid_y, valid_x, starts,
             weights, taps_z, taps_y, taps_x, first, second, third, pad, lower, upper, inverse, centred);
}
