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

enum { BLOCK = 8192, LANES = 16, FEW_ROWS = 128 };

/* One addend of the current.
 *
 * x: step t starts at x + t * x_step; x_step is 0 for an addend that is the same at every step.
 * scale, shift: the addend is x * scale + shift per channel, step t starts at t * affine_step; or NULL for x.
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

/* Values that lie side by side: some rows with all their channels or, where a row is too wide, a part of one. */
typedef struct {
    int64_t start; /* of its first value within a step */
    int64_t channel; /* its first one */
    int64_t rows;
    int64_t width; /* channels of each of its rows */
} block;

/* LANES channels of a row. Sums of this type stay in registers, where those in an array go through memory. */
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

/* The first channels of a row, at most LANES; zeros beyond. */
static inline lanes load(const float *from, int64_t width)
{
    lanes found = {0};
    if (width == LANES) {
        memcpy(&found, from, sizeof(found));
    } else {
        memcpy(&found, from, sizeof(float) * width);
    }
    return found;
}

/* Writes the first channels of a row, at most LANES. */
static inline void store(float *to, const lanes *values, int64_t width)
{
    if (width == LANES) {
        memcpy(to, values, sizeof(*values));
    } else {
        memcpy(to, values, sizeof(float) * width);
    }
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* The block at a place, for rows up to `last`; its size is at most BLOCK. */
static block block_at(int64_t row, int64_t channel, int64_t last, int64_t channels)
{
    block found = {row * channels + channel, channel, 1, smaller(channels - channel, BLOCK)};
    if (channels <= BLOCK) found.rows = smaller(last - row, BLOCK / channels);
    return found;
}

/* current (+)= addend, for a block. */
static void add(const term *one, int64_t t, block at, int begin, float *restrict current)
{
    const float *restrict x = one->x + t * one->x_step + at.start;
    int64_t size = at.rows * at.width;
    if (one->scale == NULL) {
        if (begin) {
            memcpy(current, x, sizeof(float) * size);
        } else {
            for (int64_t i = 0; i < size; i++) current[i] += x[i];
        }
        return;
    }
    const float *restrict scale = one->scale + t * one->affine_step + at.channel;
    const float *restrict shift = one->shift + t * one->affine_step + at.channel;
    for (int64_t r = 0; r < at.rows; r++) {
        float *restrict to = current + r * at.width;
        const float *restrict from = x + r * at.width;
        if (begin) {
            for (int64_t c = 0; c < at.width; c++) to[c] = from[c] * scale[c] + shift[c];
        } else {
            for (int64_t c = 0; c < at.width; c++) to[c] += from[c] * scale[c] + shift[c];
        }
    }
}

/* u = tau * v + current;  s = u > threshold;  v = u * (1 - s), for a block and all steps. */
static void forward_block(const term *terms, int64_t count, int64_t steps, int64_t stride, block at, float tau,
                          float threshold, const float *before, float *potentials, float *spikes, float *after)
{
    float buffer[BLOCK];
    float *restrict current = buffer;
    float *restrict v = after + at.start;
    int64_t size = at.rows * at.width;
    if (before == NULL) {
        memset(v, 0, sizeof(float) * size);
    } else {
        memcpy(v, before + at.start, sizeof(float) * size);
    }
    for (int64_t t = 0; t < steps; t++) {
        for (int64_t k = 0; k < count; k++) add(terms + k, t, at, k == 0, current);
        float *restrict u = potentials + t * stride + at.start;
        float *restrict s = spikes + t * stride + at.start;
        for (int64_t i = 0; i < size; i++) {
            float potential = v[i] * tau + current[i];
            int fires = potential > threshold;
            u[i] = potential;
            s[i] = fires ? 1.0f : 0.0f;
            v[i] = fires ? 0.0f : potential;
        }
    }
}

/* Adds a block's spikes of all steps to the counts of their neurons, which come round again with each sample. */
static void add_spikes(const float *spikes, int64_t steps, int64_t stride, block at, int64_t neurons, float *counts)
{
    int64_t size = at.rows * at.width, run;
    for (int64_t start = 0; start < size; start += run) {
        int64_t neuron = (at.start + start) % neurons;
        const float *from = spikes + at.start + start;
        run = smaller(size - start, neurons - neuron);
        for (int64_t i = 0; i < run; i += LANES) {
            int64_t width = smaller(run - i, LANES);
            lanes count = load(counts + neuron + i, width);
            for (int64_t t = 0; t < steps; t++) count += load(from + t * stride + i, width);
            store(counts + neuron + i, &count, width);
        }
    }
}

/* Spikes and potentials (steps, rows, channels).
 *
 * before, after: (rows, channels), v before the first and after the last step; before may be NULL for zeros.
 * neurons: How many values a sample has at each step; their spikes are added to counts, unless that is NULL.
 */
void lif_forward(const term *terms, int64_t count, int64_t steps, int64_t all_rows, int64_t channels, int64_t first,
                 int64_t last, float tau, float threshold, const float *before, float *potentials, float *spikes,
                 float *after, int64_t neurons, float *counts)
{
    block at;
    for (int64_t row = first; row < last; row += at.rows) {
        for (int64_t channel = 0; channel < channels; channel += at.width) {
            at = block_at(row, channel, last, channels);
            forward_block(terms, count, steps, all_rows * channels, at, tau, threshold, before, potentials, spikes,
                          after);
            if (counts != NULL) add_spikes(spikes, steps, all_rows * channels, at, neurons, counts);
        }
    }
}

/* Adds sums over a few rows of g and of g * (x - mean) to those of up to LANES channels. */
static void add_rows(const float *x, const float *g, int64_t rows, int64_t stride, int64_t width, const float *mean,
                     double *sums, double *products)
{
    lanes level = load(mean, width), sum = {0}, product = {0};
    for (int64_t r = 0; r < rows; r++) {
        lanes slope = load(g + r * stride, width);
        sum += slope;
        product += slope * (load(x + r * stride, width) - level);
    }
    for (int64_t i = 0; i < width; i++) {
        sums[i] += sum[i];
        products[i] += product[i];
    }
}

/* Adds a block's sums over rows of g and of g * (x - mean), per channel, to those of step t. */
static void add_sums(const term *one, int64_t t, block at, int64_t channels, const float *g)
{
    const float *x = one->x + t * one->x_step + at.start;
    const float *mean = one->mean + t * one->affine_step + at.channel;
    double *sums = one->sums + t * channels + at.channel;
    double *products = one->products + t * channels + at.channel;
    for (int64_t row = 0; row < at.rows; row += FEW_ROWS) {
        int64_t rows = smaller(at.rows - row, FEW_ROWS);
        for (int64_t c = 0; c < at.width; c += LANES) {
            int64_t place = row * at.width + c;
            add_rows(x + place, g + place, rows, at.width, smaller(at.width - c, LANES), mean + c, sums + c,
                     products + c);
        }
    }
}

/* The prices of a block's neurons, in its order. */
static void spread(const float *prices, int64_t neurons, block at, float *to)
{
    int64_t size = at.rows * at.width, run;
    for (int64_t start = 0; start < size; start += run) {
        int64_t neuron = (at.start + start) % neurons;
        run = smaller(size - start, neurons - neuron);
        memcpy(to + start, prices + neuron, sizeof(float) * run);
    }
}

static const float zeros[BLOCK] = {0};

/* Gradients of a block, from the last step to the first; arguments as those of lif_backward. */
static void backward_block(const term *terms, int64_t count, int64_t steps, int64_t stride, int64_t channels, block at,
                           float tau, float threshold, float width, const float *potentials, const float *derivatives,
                           const float *from_spikes, const float *from_after, float *gradients, float *to_before,
                           int64_t neurons, const float *prices, float fired, float silent)
{
    float buffer[BLOCK], spread_prices[BLOCK];
    float *restrict slope = buffer;
    const float *restrict price = spread_prices;
    float *restrict to_v = to_before + at.start;
    float factor = 1.0f / (width * width);
    int64_t size = at.rows * at.width;
    if (from_after == NULL) {
        memset(to_v, 0, sizeof(float) * size);
    } else {
        memcpy(to_v, from_after + at.start, sizeof(float) * size);
    }
    if (prices != NULL) spread(prices, neurons, at, spread_prices);
    for (int64_t t = steps - 1; t >= 0; t--) {
        int64_t place = t * stride + at.start;
        const float *restrict u = potentials + place;
        const float *restrict loss = from_spikes == NULL ? zeros : from_spikes + place;
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
        if (prices == NULL) {
            for (int64_t i = 0; i < size; i++) {
                float through_spike = (loss[i] - u[i] * to_v[i]) * slope[i];
                g[i] = (u[i] > threshold ? 0.0f : to_v[i]) + through_spike;
                to_v[i] = g[i] * tau;
            }
        } else {
            for (int64_t i = 0; i < size; i++) {
                int fires = u[i] > threshold;
                float through_spike = (loss[i] + price[i] * (fires ? fired : silent) - u[i] * to_v[i]) * slope[i];
                g[i] = (fires ? 0.0f : to_v[i]) + through_spike;
                to_v[i] = g[i] * tau;
            }
        }
        for (int64_t k = 0; k < count; k++) add_sums(terms + k, t, at, channels, g);
    }
}

/* Gradient with respect to the current of every step and to v before the first.
 *
 * terms: those that are normalised; they get sums (steps, channels) of the gradient g and of g * (x - mean).
 * derivatives: ds/du; NULL for the triangle max(0, width - |u - threshold|) / width^2.
 * from_spikes, from_after: gradients of the loss; either may be NULL for zeros.
 * gradients: (steps, rows, channels); to_before: (rows, channels).
 * neurons: How many values a sample has at each step. The price of a neuron is added to the gradient of each of its
 *     spikes, times `fired` where that is 1 and times `silent` where it is 0; prices may be NULL for zeros.
 */
void lif_backward(const term *terms, int64_t count, int64_t steps, int64_t all_rows, int64_t channels, int64_t first,
                  int64_t last, float tau, float threshold, float width, const float *potentials,
                  const float *derivatives, const float *from_spikes, const float *from_after, float *gradients,
                  float *to_before, int64_t neurons, const float *prices, float fired, float silent)
{
    block at;
    for (int64_t row = first; row < last; row += at.rows) {
        for (int64_t channel = 0; channel < channels; channel += at.width) {
            at = block_at(row, channel, last, channels);
            backward_block(terms, count, steps, all_rows * channels, channels, at, tau, threshold, width, potentials,
                           derivatives, from_spikes, from_after, gradients, to_before, neurons, prices, fired,
                           silent);
        }
    }
}

/* Takes a few rows of up to LANES channels into mean and squared deviations from it, of `known` rows so far.
 *
 * What the mean of these rows was rounded by is found in a second pass, while they are in the cache, and put
 * right. Both parts are put together as Chan, Golub and LeVeque (1979) do, which loses nothing to cancellation.
 */
static void take_rows(const float *x, int64_t rows, int64_t stride, int64_t width, int64_t known, double *mean,
                      double *squares)
{
    lanes level = {0}, rest = {0}, square = {0};
    for (int64_t r = 0; r < rows; r++) level += load(x + r * stride, width);
    level /= (float)rows;
    for (int64_t r = 0; r < rows; r++) {
        lanes distance = load(x + r * stride, width) - level;
        rest += distance;
        square += distance * distance;
    }
    double share = (double)rows / (double)(known + rows);
    for (int64_t i = 0; i < width; i++) {
        double own = level[i] + (double)rest[i] / rows;
        double deviations = square[i] - (double)rest[i] * rest[i] / rows;
        double distance = own - mean[i];
        mean[i] += distance * share;
        squares[i] += (deviations > 0 ? deviations : 0) + distance * distance * share * known;
    }
}

/* Mean (steps, channels) of the rows [first, last), and the sum of the squared deviations from it. */
void moments(const float *x, int64_t steps, int64_t all_rows, int64_t channels, int64_t first, int64_t last,
             double *mean, double *squares)
{
    for (int64_t t = 0; t < steps; t++) {
        for (int64_t row = first; row < last; row += FEW_ROWS) {
            int64_t rows = smaller(last - row, FEW_ROWS);
            for (int64_t c = 0; c < channels; c += LANES) {
                take_rows(x + (t * all_rows + row) * channels + c, rows, channels, smaller(channels - c, LANES),
                          row - first, mean + t * channels + c, squares + t * channels + c);
            }
        }
    }
}

/* to = g * a + (x - mean) * b + c, with a, b, c and mean per step and channel. */
void combine(const float *g, const float *x, const float *mean, const float *a, const float *b, const float *c,
             int64_t steps, int64_t all_rows, int64_t channels, int64_t first, int64_t last, float *to)
{
    for (int64_t t = 0; t < steps; t++) {
        const float *restrict p = a + t * channels, *restrict q = b + t * channels, *restrict r = c + t * channels;
        const float *restrict level = mean + t * channels;
        for (int64_t row = first; row < last; row++) {
            int64_t place = (t * all_rows + row) * channels;
            const float *restrict slope = g + place, *restrict from = x + place;
            float *restrict out = to + place;
            for (int64_t i = 0; i < channels; i++) out[i] = slope[i] * p[i] + (from[i] - level[i]) * q[i] + r[i];
        }
    }
}
