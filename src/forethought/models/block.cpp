// A GPT block (`GPTBlock`) on a CPU, forward and backward, in fp32, for short sequences.
//
// PyTorch computes each operation for the whole batch, one after the other. A sequence of this field is
// some thirty tokens of width 32: so small that a few of them fit into the fastest cache together with
// all that a block computes from them. Here, a few rows of the batch pass the whole block before the next.
//
// `compiled_block.py` compiles this file for the CPU it runs on, and has the shapes.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

// ---- vectors of N floats, and products of matrices ----

template <int N>
using Vector [[gnu::vector_size(4 * N), gnu::aligned(4), gnu::may_alias]] = float;

#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

using V = Vector<8>;
using Wide = Vector<LANES>;
using Integers [[gnu::vector_size(4 * LANES)]] = int32_t;

template <int N = 8>
inline Vector<N> load(const float* from) {
    return *reinterpret_cast<const Vector<N>*>(from);
}

template <int N = 8>
inline void store(float* to, Vector<N> values) {
    *reinterpret_cast<Vector<N>*>(to) = values;
}

inline float sum(V v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

inline float sum(Vector<16> v) {
    const V* half = reinterpret_cast<const V*>(&v);
    return sum(half[0] + half[1]);
}

// A matrix to be read: element (i, j) is at[i * row + j * column].
struct Matrix {
    const float* at;
    int row, column = 1;

    Matrix transposed() const { return {at, column, row}; }
};

// What a product is added to: an element of each sum, or nothing. Rows 0 apart: the same for each.
struct Start {
    const float* at = nullptr;
    int row = 0;
};

// R rows and C vectors of a product, whose sums stay in registers.
template <int N, int R, int C>
void tile(int depth, Matrix a, const float* b, int b_row, float* c, int c_row, Start start) {
    Vector<N> sums[R][C];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < C; ++j)
            sums[i][j] = start.at ? load<N>(start.at + i * start.row + j * N) : Vector<N>{};
    for (int k = 0; k < depth; ++k) {
        Vector<N> right[C];
#pragma GCC unroll 8
        for (int j = 0; j < C; ++j) right[j] = load<N>(b + k * b_row + j * N);
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i) {
            float left = a.at[i * a.row + k * a.column];
#pragma GCC unroll 8
            for (int j = 0; j < C; ++j) sums[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < C; ++j) store<N>(c + i * c_row + j * N, sums[i][j]);
}

template <int N, int C, int R = 6>
void tiles(int rows, int depth, Matrix a, const float* b, int b_row, float* c, int c_row, Start start) {
    for (; rows >= R; rows -= R, a.at += R * a.row, c += R * c_row) {
        tile<N, R, C>(depth, a, b, b_row, c, c_row, start);
        if (start.at) start.at += R * start.row;
    }
    if constexpr (R > 1) {
        if (rows > 0) tiles<N, C, R - 1>(rows, depth, a, b, b_row, c, c_row, start);
    }
}

// Columns of b, copied so that their rows follow each other: rows a power of two apart share few lines of
// the fastest cache.
template <int N, int C>
void panel(int rows, int depth, Matrix a, const float* b, int b_row, float* c, int c_row, Start start) {
    constexpr int DEPTH = 192;
    alignas(64) float packed[DEPTH * C * N];
    for (; depth > 0; depth -= DEPTH, a.at += DEPTH * a.column, b += DEPTH * b_row, start = {c, c_row}) {
        int some = std::min(depth, DEPTH);
        for (int k = 0; k < some; ++k)
            for (int j = 0; j < C; ++j) store<N>(packed + (k * C + j) * N, load<N>(b + k * b_row + j * N));
        tiles<N, C>(rows, some, a, packed, C * N, c, c_row, start);
    }
}

// c = start + a b. The rows of b and c are contiguous, and their columns a multiple of 8.
void product(int rows, int columns, int depth, Matrix a, const float* b, int b_row, float* c, int c_row,
             Start start = {}) {
    auto from = [&](int j) { return start.at ? Start{start.at + j, start.row} : start; };
    int j = 0;
    for (; j + 2 * LANES <= columns; j += 2 * LANES)
        panel<LANES, 2>(rows, depth, a, b + j, b_row, c + j, c_row, from(j));
    for (; j + LANES <= columns; j += LANES)
        tiles<LANES, 1>(rows, depth, a, b + j, b_row, c + j, c_row, from(j));
    if (j < columns) tiles<8, 1>(rows, depth, a, b + j, b_row, c + j, c_row, from(j));
}

// c += a b
void add_product(int rows, int columns, int depth, Matrix a, const float* b, int b_row, float* c, int c_row) {
    product(rows, columns, depth, a, b, b_row, c, c_row, {c, c_row});
}

void transpose(int rows, int columns, const float* from, int from_row, float* to, int to_row) {
    constexpr int SOME = 16;  // lines of `to` that are written in turns
    for (int first = 0; first < columns; first += SOME)
        for (int i = 0; i < rows; ++i)
            for (int j = first; j < std::min(first + SOME, columns); ++j)
                to[j * to_row + i] = from[i * from_row + j];
}

// y[r] = x[r] + bias
void add_bias(int rows, int columns, const float* x, const float* bias, float* y) {
    for (int r = 0; r < rows; ++r)
        for (int i = 0; i < columns; i += 8)
            store(y + r * columns + i, load(x + r * columns + i) + load(bias + i));
}

void add_rows(int rows, int columns, const float* y, float* total) {
    for (int r = 0; r < rows; ++r)
        for (int i = 0; i < columns; i += 8) store(total + i, load(total + i) + load(y + r * columns + i));
}

// ---- functions of numbers ----

// Cephes' expf: 2^n times a polynomial; within 2 units in the last place. 0 below -87.
inline Wide exponential(Wide x) {
    Wide nothing{};
    Wide kept = x < -87.0f ? nothing - 87.0f : x;
    Wide rounded = kept * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: the last bits are the integer
    Integers n = reinterpret_cast<Integers>(rounded) - 0x4B400000;
    Wide whole = rounded - 12582912.0f;
    Wide r = kept - whole * 0.693359375f + whole * 2.12194440e-4f;
    Wide y = nothing + 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    y *= reinterpret_cast<Wide>((n + 127) << 23);
    return x < -87.0f ? nothing : y;
}

// x Phi(x) and its slope, Phi(x) + x phi(x); the error function by Abramowitz & Stegun 7.1.26, within 1.5e-7.
struct Gelu {
    Wide value, slope;

    explicit Gelu(Wide x) {
        Wide size = x < 0.0f ? -x : x;
        Wide bell = exponential(-0.5f * size * size);
        Wide t = 1.0f / (1.0f + 0.231641888f * size);
        Wide tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t +
                  0.254829592f) * t * bell * 0.5f;
        Wide below = x < 0.0f ? tail : 1.0f - tail;
        value = x * below;
        slope = below + x * bell * 0.39894228040143268f;
    }
};

// ---- layer norm ----

struct Scale {
    const float *weight, *bias;
};

// Of each row: its mean, and 1 / its standard deviation.
using Moments = float*;

void find_moments(int rows, int D, const float* x, Moments moments) {
    for (int r = 0; r < rows; ++r, x += D, moments += 2) {
        V total{}, squares{};
        for (int i = 0; i < D; i += 8) total += load(x + i);
        float mean = sum(total) / D;
        for (int i = 0; i < D; i += 8) {
            V off = load(x + i) - mean;
            squares += off * off;
        }
        moments[0] = mean;
        moments[1] = 1 / std::sqrt(sum(squares) / D + 1e-5f);
    }
}

void norm(int rows, int D, const float* x, Scale scale, const float* moments, float* y) {
    for (int r = 0; r < rows; ++r, x += D, y += D, moments += 2)
        for (int i = 0; i < D; i += 8) {
            V standard = (load(x + i) - moments[0]) * moments[1];
            store(y + i, standard * load(scale.weight + i) + load(scale.bias + i));
        }
}

// dx += the gradient of x, and likewise of weight and bias.
void norm_backward(int rows, int D, const float* dy, const float* x, const float* weight,
                   const float* moments, float* dx, float* dweight, float* dbias) {
    for (int r = 0; r < rows; ++r, x += D, dy += D, dx += D, moments += 2) {
        V mean{}, slope{};
        for (int i = 0; i < D; i += 8) {
            V standard = (load(x + i) - moments[0]) * moments[1], d = load(dy + i), w = d * load(weight + i);
            store(dweight + i, load(dweight + i) + d * standard);
            store(dbias + i, load(dbias + i) + d);
            mean += w;
            slope += w * standard;
        }
        float a = sum(mean) / D, b = sum(slope) / D;
        for (int i = 0; i < D; i += 8) {
            V standard = (load(x + i) - moments[0]) * moments[1], w = load(dy + i) * load(weight + i);
            store(dx + i, load(dx + i) + (w - a - standard * b) * moments[1]);
        }
    }
}

// ---- the block ----

struct Shape {
    int64_t B, T, L, D, H, masks;  // masks: one for each row, one for all, or 0: the causal one

    int padded() const { return (T + LANES - 1) / LANES * LANES; }  // S: the tokens seen, in whole vectors
    int group() const { return std::max<int64_t>(1, 128 / T); }  // rows that pass the block together
};

// Of a block's parameters, and of their gradients, in the order of `PARAMETERS` of compiled_block.py.
template <class Float>
struct Parameters {
    Float *norm1_weight, *norm1_bias, *qkv_weight, *qkv_bias, *output_weight, *output_bias;
    Float *norm2_weight, *norm2_bias, *up_weight, *up_bias, *down_weight, *down_bias;
};

using Weights = Parameters<const float>;

// Weights as "input output", as `product` needs them where a layer is applied.
struct Transposed {
    std::vector<float> qkv, output, up, down;

    Transposed(const Weights& w, int D) : qkv(3 * D * D), output(D * D), up(4 * D * D), down(4 * D * D) {
        transpose(3 * D, D, w.qkv_weight, D, qkv.data(), 3 * D);
        transpose(D, D, w.output_weight, D, output.data(), D);
        transpose(4 * D, D, w.up_weight, D, up.data(), 4 * D);
        transpose(D, 4 * D, w.down_weight, 4 * D, down.data(), D);
    }
};

// Room for intermediate values, which std::vector would fill with zeros.
class Scratch {
    std::unique_ptr<float[]> floats;

  public:
    explicit Scratch(int64_t size) : floats(new float[size]) {}
    float* data() { return floats.get(); }
};

// What the backward pass needs of the rows of a batch, from `row` on.
struct Kept {
    float *moments1, *qkv, *attention, *mixed, *residual, *moments2, *up;

    Kept(float* from, const Shape& s, int64_t rows, int64_t row) {
        auto take = [&](int64_t size) { return std::exchange(from, from + rows * size) + row * size; };
        moments1 = take(s.T * 2);
        qkv = take(s.T * 3 * s.D);
        attention = take(s.H * s.L * s.padded());
        mixed = take(s.L * s.D);
        residual = take(s.L * s.D);
        moments2 = take(s.L * 2);
        up = take(s.L * 4 * s.D);
    }

    static int64_t size(const Shape& s) {  // of one row
        return s.T * (2 + 3 * s.D) + s.L * (2 + 6 * s.D + s.H * s.padded());
    }
};

// bias[l, s] = 0 where the l-th of the last L tokens sees token s, and minus infinity elsewhere.
void fill_bias(const Shape& s, const bool* mask, float* bias) {
    int S = s.padded(), skipped = s.T - s.L;
    for (int l = 0; l < s.L; ++l)
        for (int i = 0; i < S; ++i) {
            bool seen = i < s.T && (mask ? mask[(skipped + l) * s.T + i] : i <= skipped + l);
            bias[l * S + i] = seen ? 0.0f : -INFINITY;
        }
}

void softmax(int S, float scale, const float* bias, float* scores) {
    Wide most = Wide{} - INFINITY, total{};
    for (int i = 0; i < S; i += LANES) {
        Wide score = load<LANES>(scores + i) * scale + load<LANES>(bias + i);
        store<LANES>(scores + i, score);
        most = score > most ? score : most;
    }
    float top = most[0];
    for (int i = 1; i < LANES; ++i) top = std::max(top, most[i]);
    for (int i = 0; i < S; i += LANES) {
        Wide weight = exponential(load<LANES>(scores + i) - top);
        store<LANES>(scores + i, weight);
        total += weight;
    }
    float inverse = 1 / sum(total);
    for (int i = 0; i < S; i += LANES) store<LANES>(scores + i, load<LANES>(scores + i) * inverse);
}

// Rows `from` to `to` of the batch; `kept` is where they are kept, or null.
void forward(const Shape& s, int64_t from, int64_t to, const float* all_x, const bool* mask,
             const Weights& w, const Transposed& t, float* all_y, float* kept) {
    int T = s.T, L = s.L, D = s.D, H = s.H, E = D / H, S = s.padded(), skipped = T - L, step = s.group();
    float scale = 1 / std::sqrt(float(E));
    Scratch normed(step * T * D), hidden(step * L * 4 * D), bias(L * S), unkept(kept ? 0 : step * Kept::size(s));
    std::vector<float> keys(E * S);  // zeros beyond the last token
    if (s.masks < 2) fill_bias(s, mask, bias.data());
    for (int64_t row = from; row < to; row += step) {
        int n = std::min<int64_t>(step, to - row), tokens = n * T, last = n * L;
        Kept k = kept ? Kept(kept, s, s.B, row) : Kept(unkept.data(), s, step, 0);
        const float* x = all_x + row * T * D;
        float* y = all_y + row * L * D;

        find_moments(tokens, D, x, k.moments1);
        norm(tokens, D, x, {w.norm1_weight, w.norm1_bias}, k.moments1, normed.data());
        product(tokens, 2 * D, D, {normed.data(), D}, t.qkv.data() + D, 3 * D, k.qkv + D, 3 * D,
                {w.qkv_bias + D});
        for (int b = 0; b < n; ++b) {
            int first = b * T + skipped;
            Matrix h{normed.data() + first * D, D};
            product(L, D, D, h, t.qkv.data(), 3 * D, k.qkv + first * 3 * D, 3 * D, {w.qkv_bias});
        }
        for (int b = 0; b < n; ++b) {
            if (s.masks > 1) fill_bias(s, mask + (row + b) * T * T, bias.data());
            for (int h = 0; h < H; ++h) {
                const float* q = k.qkv + (b * T + skipped) * 3 * D + h * E;
                const float* key = k.qkv + b * T * 3 * D + D + h * E;
                const float* value = key + D;
                float* weights = k.attention + (b * H + h) * L * S;
                transpose(T, E, key, 3 * D, keys.data(), S);
                product(L, S, E, {q, 3 * D}, keys.data(), S, weights, S);
                for (int l = 0; l < L; ++l) softmax(S, scale, bias.data() + l * S, weights + l * S);
                product(L, E, T, {weights, S}, value, 3 * D, k.mixed + b * L * D + h * E, D);
            }
        }
        for (int b = 0; b < n; ++b)
            add_bias(L, D, x + (b * T + skipped) * D, w.output_bias, k.residual + b * L * D);
        add_product(last, D, D, {k.mixed, D}, t.output.data(), D, k.residual, D);

        find_moments(last, D, k.residual, k.moments2);
        norm(last, D, k.residual, {w.norm2_weight, w.norm2_bias}, k.moments2, normed.data());
        product(last, 4 * D, D, {normed.data(), D}, t.up.data(), 4 * D, k.up, 4 * D, {w.up_bias});
        for (int i = 0; i < last * 4 * D; i += LANES)
            store<LANES>(hidden.data() + i, Gelu(load<LANES>(k.up + i)).value);
        add_bias(last, D, k.residual, w.down_bias, y);
        add_product(last, D, 4 * D, {hidden.data(), 4 * D}, t.down.data(), D, y, D);
    }
}

// Rows `from` to `to`: sets their `all_dx`, and adds to the gradients of the parameters.
void backward(const Shape& s, int64_t from, int64_t to, const float* all_x, const Weights& w,
              const float* all_dy, float* kept, float* all_dx, const Parameters<float>& d) {
    int T = s.T, L = s.L, D = s.D, H = s.H, E = D / H, S = s.padded(), skipped = T - L, step = s.group();
    float scale = 1 / std::sqrt(float(E));
    Scratch normed(step * T * D), dnormed(step * T * D), hidden(step * L * 4 * D), dup(step * L * 4 * D);
    Scratch dresidual(step * L * D), dmixed(step * L * D), dqkv(step * T * 3 * D), dscores(L * S);
    std::vector<float> values(E * S);  // zeros beyond the last token
    for (int64_t row = from; row < to; row += step) {
        int n = std::min<int64_t>(step, to - row), tokens = n * T, last = n * L;
        Kept k(kept, s, s.B, row);
        const float* x = all_x + row * T * D;
        const float* dy = all_dy + row * L * D;
        float* dx = all_dx + row * T * D;

        Matrix out{dy, D}, up{dup.data(), 4 * D}, residual{dresidual.data(), D}, qkv{dqkv.data(), 3 * D};

        product(last, 4 * D, D, out, w.down_weight, 4 * D, dup.data(), 4 * D);
        for (int i = 0; i < last * 4 * D; i += LANES) {
            Gelu gelu(load<LANES>(k.up + i));
            store<LANES>(hidden.data() + i, gelu.value);
            store<LANES>(dup.data() + i, load<LANES>(dup.data() + i) * gelu.slope);
        }
        add_product(D, 4 * D, last, out.transposed(), hidden.data(), 4 * D, d.down_weight, 4 * D);
        add_rows(last, D, dy, d.down_bias);
        norm(last, D, k.residual, {w.norm2_weight, w.norm2_bias}, k.moments2, normed.data());
        add_product(4 * D, D, last, up.transposed(), normed.data(), D, d.up_weight, D);
        add_rows(last, 4 * D, dup.data(), d.up_bias);
        product(last, D, 4 * D, up, w.up_weight, D, dnormed.data(), D);
        std::copy_n(dy, last * D, dresidual.data());
        norm_backward(last, D, dnormed.data(), k.residual, w.norm2_weight, k.moments2, dresidual.data(),
                      d.norm2_weight, d.norm2_bias);

        add_product(D, D, last, residual.transposed(), k.mixed, D, d.output_weight, D);
        add_rows(last, D, dresidual.data(), d.output_bias);
        product(last, D, D, residual, w.output_weight, D, dmixed.data(), D);
        if (skipped) std::fill_n(dqkv.data(), tokens * 3 * D, 0.0f);
        for (int b = 0; b < n; ++b)
            for (int h = 0; h < H; ++h) {
                int64_t first = b * T * 3 * D + h * E;
                const float *q = k.qkv + first + skipped * 3 * D, *key = k.qkv + first + D, *value = key + D;
                float *dq = dqkv.data() + first + skipped * 3 * D, *dkey = dqkv.data() + first + D;
                Matrix weights{k.attention + (b * H + h) * L * S, S}, ds{dscores.data(), S};
                const float* dm = dmixed.data() + b * L * D + h * E;
                product(T, E, L, weights.transposed(), dm, D, dkey + D, 3 * D);
                transpose(T, E, value, 3 * D, values.data(), S);
                product(L, S, E, {dm, D}, values.data(), S, dscores.data(), S);
                for (int l = 0; l < L; ++l) {
                    float* line = dscores.data() + l * S;
                    const float* weight = weights.at + l * S;
                    Wide total{};
                    for (int i = 0; i < S; i += LANES)
                        total += load<LANES>(line + i) * load<LANES>(weight + i);
                    float mean = sum(total);
                    for (int i = 0; i < S; i += LANES) {
                        Wide slope = (load<LANES>(line + i) - mean) * load<LANES>(weight + i) * scale;
                        store<LANES>(line + i, slope);
                    }
                }
                product(L, E, T, ds, key, 3 * D, dq, 3 * D);
                product(T, E, L, ds.transposed(), q, 3 * D, dkey, 3 * D);
            }

        norm(tokens, D, x, {w.norm1_weight, w.norm1_bias}, k.moments1, normed.data());
        add_product(3 * D, D, tokens, qkv.transposed(), normed.data(), D, d.qkv_weight, D);
        add_rows(tokens, 3 * D, dqkv.data(), d.qkv_bias);
        product(tokens, D, 3 * D, qkv, w.qkv_weight, D, dnormed.data(), D);
        std::fill_n(dx, tokens * D, 0.0f);
        for (int b = 0; b < n; ++b)
            std::copy_n(dresidual.data() + b * L * D, L * D, dx + (b * T + skipped) * D);
        norm_backward(tokens, D, dnormed.data(), x, w.norm1_weight, k.moments1, dx, d.norm1_weight,
                      d.norm1_bias);
    }
}

// The batch in a fixed number of parts, so that sums do not depend on the number of threads.
constexpr int PARTS = 8;

// Returns 0, or 1 if there was no memory.
template <class Work>
int in_parallel(int threads, int64_t rows, const Work& work) {
    struct Progress {
        std::atomic<int> next{0}, done{0}, failed{0};
    };
    auto progress = std::make_shared<Progress>();
    auto run = [progress, rows, &work] {  // touches `work` only while the caller waits for a part
        for (int part = progress->next++; part < PARTS; part = progress->next++) {
            int64_t from = rows * part / PARTS, to = rows * (part + 1) / PARTS;
            try {
                work(part, from, to);
            } catch (const std::bad_alloc&) {
                progress->failed = 1;
            }
            ++progress->done;
        }
    };
    // Not joined: on a busy machine, a thread may get its core when no part is left.
    try {
        for (int i = 1; i < std::min(threads, PARTS); ++i) std::thread(run).detach();
    } catch (const std::system_error&) {  // no more threads for this process: those there are do the work
    }
    run();
    while (progress->done < PARTS) std::this_thread::yield();
    return progress->failed;
}

}  // namespace

extern "C" int64_t kept_size(const Shape* shape) { return shape->B * Kept::size(*shape); }

extern "C" int block_forward(const Shape* shape, int threads, const float* x, const bool* mask,
                             const Weights* weights, float* y, float* kept) try {
    Transposed transposed(*weights, shape->D);
    return in_parallel(threads, shape->B, [&](int, int64_t from, int64_t to) {
        forward(*shape, from, to, x, mask, *weights, transposed, y, kept);
    });
} catch (const std::bad_alloc&) {
    return 1;
}

// `gradients` has room for those of all parameters, one after the other.
extern "C" int block_backward(const Shape* shape, int threads, const float* x, const Weights* weights,
                              const float* dy, float* kept, float* dx, float* gradients) try {
    int64_t D = shape->D, size = 12 * D * D + 13 * D;
    Scratch sums(PARTS * size);
    int failed = in_parallel(threads, shape->B, [&](int part, int64_t from, int64_t to) {
        float* next = sums.data() + part * size;
        std::fill_n(next, size, 0.0f);
        auto take = [&](int64_t count) { return std::exchange(next, next + count); };
        Parameters<float> d{take(D), take(D), take(3 * D * D), take(3 * D), take(D * D), take(D),
                            take(D), take(D), take(4 * D * D), take(4 * D), take(4 * D * D), take(D)};
        backward(*shape, from, to, x, *weights, dy, kept, dx, d);
    });
    in_parallel(threads, size, [&](int, int64_t from, int64_t to) {
        std::copy(sums.data() + from, sums.data() + to, gradients + from);
        for (int part = 1; part < PARTS; ++part)
            for (int64_t i = from; i < to; ++i) gradients[i] += sums.data()[part * size + i];
    });
    return failed;
} catch (const std::bad_alloc&) {
    return 1;
}
