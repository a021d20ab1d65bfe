/* Spiking neurons over time and the normalisation of what enters them, on a CPU, in single precision.
 *
 * Every array is (steps, rows, channels) with the channels innermost; a row is one place of one sample. A
 * function works on the rows [first, last), so that threads can share the rows; what it sums over rows is the
 * sum over its own rows. Blocks of rows stay in the cache while all their steps are computed.
 *
 * Compile without contraction of multiply and add: u = tau * v + x is rounded twice, as in the interpreter.
 */
#include <stdint.h>
#include <string.h>

enum { BLOCK = 8192, LANES = 32 };

/* One addend of the current.
 *
 * x: step t starts at x + t * x_step; x_step is 0 for an addend that is the same at every step.
 * scale, shift: the addend is x * scale + shift per channel, row t starts at t * affine_step; or NULL for x.
 * mean, sums, products: as the backward pass needs them; see there.
 */
typedef struct {
    const float *x;
    int64_t x_step;
    const float *scale;
    const float *shift;
    int64_t affine_step;
    const float *mean;
    double *sums;
    double *products;
} term;

static int64_t rows_of_block(int64_t channels)
{
    int64_t rows = BLOCK / channels;
    return rows < 1 ? 1 : rows;
}

/* current (+)= addend, for a block that starts at row `row`. */
static void add(const term *one, int64_t t, int64_t row, int64_t rows, int64_t channels, int begin, float *current)
{
    const float *restrict x = one->x + t * one->x_step + row * channels;
    if (one->scale == NULL) {
        if (begin) {
            memcpy(current, x, sizeof(float) * rows * channels);
        } else {
            for (int64_t i = 0; i < rows * channels; i++) current[i] += x[i];
        }
        return;
    }
    const float *restrict scale = one->scale + t * one->affine_step;
    const float *restrict shift = one->shift + t * one->affine_step;
    for (int64_t r = 0; r < rows; r++) {
        float *restrict to = current + r * channels;
        const float *restrict from = x + r * channels;
        if (begin) {
            for (int64_t c = 0; c < channels; c++) to[c] = from[c] * scale[c] + shift[c];
        } else {
            for (int64_t c = 0; c < channels; c++) to[c] += from[c] * scale[c] + shift[c];
        }
    }
}

/* u = tau * v + current;  s = u > threshold;  v = u * (1 - s).
 *
 * before, after: (rows, channels), v before the first and after the last step; before may be NULL for zeros.
 */
void lif_forward(const term *terms, int64_t count, int64_t steps, int64_t all_rows, int64_t channels, int64_t first,
                 int64_t last, float tau, float threshold, const float *before, float *potentials, float *spikes,
                 float *after)
{
    int64_t most = rows_of_block(channels);
    float buffer[most * channels];
    for (int64_t row = first; row < last; row += most) {
        int64_t rows = last - row < most ? last - row : most;
        int64_t size = rows * channels;
        float *restrict v = after + row * channels;
        float *restrict current = buffer;
        if (before == NULL) {
            memset(v, 0, sizeof(float) * size);
        } else {
            memcpy(v, before + row * channels, sizeof(float) * size);
        }
        for (int64_t t = 0; t < steps; t++) {
            for (int64_t k = 0; k < count; k++) add(terms + k, t, row, rows, channels, k == 0, current);
            float *restrict u = potentials + (t * all_rows + row) * channels;
            float *restrict s = spikes + (t * all_rows + row) * channels;
            for (int64_t i = 0; i < size; i++) {
                float potential = v[i] * tau + current[i];
                int fires = potential > threshold;
                u[i] = potential;
                s[i] = fires ? 1.0f : 0.0f;
                v[i] = fires ? 0.0f : potential;
            }
        }
    }
}

/* Adds a block's sums over rows of g and of g * (x - mean), per channel, to those of step t.
 *
 * LANES channels at a time, so that their sums stay in registers.
 */
static void add_sums(const term *one, int64_t t, int64_t row, int64_t rows, int64_t channels, const float *g)
{
    const float *x = one->x + t * one->x_step + row * channels;
    const float *mean = one->mean + t * one->affine_step;
    double *sums = one->sums + t * channels;
    double *products = one->products + t * channels;
    for (int64_t c = 0; c < channels; c += LANES) {
        float sum[LANES] = {0}, product[LANES] = {0};
        int64_t width = channels - c < LANES ? channels - c : LANES;
        if (width == LANES) {
            float level[LANES];
            memcpy(level, mean + c, sizeof(level));
            for (int64_t r = 0; r < rows; r++) {
                const float *restrict from = x + r * channels + c, *restrict slope = g + r * channels + c;
                for (int i = 0; i < LANES; i++) {
                    sum[i] += slope[i];
                    product[i] += slope[i] * (from[i] - level[i]);
                }
            }
        } else {
            for (int64_t r = 0; r < rows; r++) {
                const float *restrict from = x + r * channels + c, *restrict slope = g + r * channels + c;
                for (int64_t i = 0; i < width; i++) {
                    sum[i] += slope[i];
                    product[i] += slope[i] * (from[i] - mean[c + i]);
                }
            }
        }
        for (int64_t i = 0; i < width; i++) {
            sums[c + i] += sum[i];
            products[c + i] += product[i];
        }
    }
}

/* Gradient with respect to the current of every step and to v before the first.
 *
 * terms: those with mean != NULL get sums (steps, channels) of the gradient g and products of g * (x - mean).
 * derivatives: ds/du; NULL for the triangle max(0, width - |u - threshold|) / width^2.
 * from_spikes, from_after: gradients of the loss; either may be NULL for zeros.
 * gradients: (steps, rows, channels); to_before: (rows, channels).
 */
void lif_backward(const term *terms, int64_t count, int64_t steps, int64_t all_rows, int64_t channels, int64_t first,
                  int64_t last, float tau, float threshold, float width, const float *potentials,
                  const float *derivatives, const float *from_spikes, const float *from_after, float *gradients,
                  float *to_before)
{
    int64_t most = rows_of_block(channels);
    float factor = 1.0f / (width * width);
    float slope[most * channels];
    for (int64_t row = first; row < last; row += most) {
        int64_t rows = last - row < most ? last - row : most;
        int64_t size = rows * channels;
        float *restrict to_v = to_before + row * channels;
        if (from_after == NULL) {
            memset(to_v, 0, sizeof(float) * size);
        } else {
            memcpy(to_v, from_after + row * channels, sizeof(float) * size);
        }
        for (int64_t t = steps - 1; t >= 0; t--) {
            int64_t place = (t * all_rows + row) * channels;
            const float *restrict u = potentials + place;
            float *restrict g = gradients + place;
            if (derivatives != NULL) {
                memcpy(slope, derivatives + place, sizeof(float) * size);
            } else {
                for (int64_t i = 0; i < size; i++) {
                    float distance = u[i] - threshold;
                    float height = width - (distance < 0.0f ? -distance : distance);
                    slope[i] = (height < 0.0f ? 0.0f : height) * factor;
                }
            }
            /* v = u * (1 - s) depends on u directly and through s, and so does the loss. */
            if (from_spikes == NULL) {
                for (int64_t i = 0; i < size; i++) {
                    float through_spike = -(u[i] * to_v[i]) * slope[i];
                    g[i] = (u[i] > threshold ? 0.0f : to_v[i]) + through_spike;
                    to_v[i] = g[i] * tau;
                }
            } else {
                const float *restrict loss = from_spikes + place;
                for (int64_t i = 0; i < size; i++) {
                    float through_spike = (loss[i] - u[i] * to_v[i]) * slope[i];
                    g[i] = (u[i] > threshold ? 0.0f : to_v[i]) + through_spike;
                    to_v[i] = g[i] * tau;
                }
            }
            for (int64_t k = 0; k < count; k++) {
                if (terms[k].mean != NULL) add_sums(terms + k, t, row, rows, channels, g);
            }
        }
    }
}

/* Sums over rows of x - pivot and of its square, per step and channel, where pivot is row 0 of the step.
 *
 * The pivot keeps the difference of the two, from which the variance follows, from cancelling.
 */
void moments(const float *x, int64_t steps, int64_t all_rows, int64_t channels, int64_t first, int64_t last,
             double *sums, double *squares)
{
    int64_t most = rows_of_block(channels);
    float sum[channels], square[channels];
    for (int64_t t = 0; t < steps; t++) {
        const float *restrict pivot = x + t * all_rows * channels;
        for (int64_t row = first; row < last; row += most) {
            int64_t rows = last - row < most ? last - row : most;
            const float *restrict from = x + (t * all_rows + row) * channels;
            for (int64_t c = 0; c < channels; c++) sum[c] = square[c] = 0.0f;
            for (int64_t r = 0; r < rows; r++) {
                for (int64_t c = 0; c < channels; c++) {
                    float distance = from[r * channels + c] - pivot[c];
                    sum[c] += distance;
                    square[c] += distance * distance;
                }
            }
            for (int64_t c = 0; c < channels; c++) {
                sums[t * channels + c] += sum[c];
                squares[t * channels + c] += square[c];
            }
        }
    }
}

/* to = g * a + x * b + c, with a, b and c per step and channel; to may be g. */
void combine(const float *g, const float *x, const float *a, const float *b, const float *c, int64_t steps,
             int64_t all_rows, int64_t channels, int64_t first, int64_t last, float *to)
{
    for (int64_t t = 0; t < steps; t++) {
        const float *restrict p = a + t * channels, *restrict q = b + t * channels, *restrict r = c + t * channels;
        for (int64_t row = first; row < last; row++) {
            int64_t place = (t * all_rows + row) * channels;
            for (int64_t i = 0; i < channels; i++) to[place + i] = g[place + i] * p[i] + x[place + i] * q[i] + r[i];
        }
    }
}
