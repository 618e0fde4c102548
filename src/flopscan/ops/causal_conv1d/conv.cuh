// What the kernels of the causal convolution share: operands, and tiles of a few channels in shared memory.
//
// Macros: TX, TW, TB, TI: the dtypes of x and y, weight, bias and initial states; WIDTH of the filter; SILU; LANES that
// have an aligned row at a time, SPAN positions of a thread.

// Mirrored in cuda.py. Strides in elements; what is written is in one piece.
struct Matrix { const void* at; i64 b, d, l; };
struct Conv {
  Matrix x, grad, initial;                                         // b d l | b d l | b d w-1, or null
  const void *weight, *bias;                                       // d w | d, or null
  i64 weight_d, weight_w, bias_d;
  void *out, *grad_initial, *grad_weight, *grad_bias;              // y or the gradient of x | of the others, or null
  float* parts;                                                    // b segments d w+1: sums of the gradients of weight and bias
  int batch, channels, length;
  int segment, segments;                                           // positions of a row that LANES lanes or a block have, their number
};

#define BEFORE (WIDTH - 1)
#define SIDE 64                                                    // channels and positions of a tile

struct Filter { float w[WIDTH], bias; };
DEVICE Filter filter_of(const Conv& s, int d) {
  Filter f;
#pragma unroll
  for (int k = 0; k < WIDTH; k++) f.w[k] = read((const TW*)s.weight + d * s.weight_d + k * s.weight_w);
  f.bias = s.bias ? read((const TB*)s.bias + d * s.bias_d) : 0.f;
  return f;
}
// the output before the activation, of the positions x[0 .. w)
DEVICE float filtered(const Filter& f, const float* x) {
  float y = f.w[0] * x[0] + f.bias;
#pragma unroll
  for (int k = 1; k < WIDTH; k++) y += f.w[k] * x[k];
  return y;
}
// position t < 0, before the start
DEVICE float before(const Conv& s, int b, int d, int t) {
  if (!s.initial.at) return 0.f;
  return read((const TI*)s.initial.at + b * s.initial.b + d * s.initial.d + (t + BEFORE) * s.initial.l);
}

// A row in shared memory: a word is left out every 32, and rows are 2 words apart modulo 8, so that eight lanes with 8
// positions each, of four rows, fall on different banks.
#define PADDED(pos) ((pos) + (pos) / 32)
#define PITCH(count) (((count) + (count) / 32 + 5) / 8 * 8 + 2)

// The positions [t, t + COUNT) of a tile's channels, from d on, into shared memory; what is not there is zero. The tile
// itself begins at t + FIRST. ALONG: 0, lanes along l; 1, along d; 2, along d with 16 bytes each; 3, along l with 16.
template <class T, int ALONG, int COUNT, int FIRST>
DEVICE void fill(float* tile, const Matrix& m, i64 b, int d, int t, int channels, int length) {
  const T* from = (const T*)m.at + b * m.b;
  if (ALONG == 2) {
    const int E = 16 / (int)sizeof(T), VECTORS = SIDE / E, ACROSS = 4;
#pragma unroll 2
    for (int e = threadIdx.x; e < (COUNT + 7) / 8 * 8 * VECTORS; e += THREADS) {
      const int pos = e / (8 * VECTORS) * 8 + e / ACROSS % 8, c = (e % (8 * VECTORS) / (8 * ACROSS) * ACROSS + e % ACROSS) * E;
      if (pos >= COUNT) continue;
      Pack<T, E> p;
#pragma unroll
      for (int i = 0; i < Pack<T, E>::WORDS; i++) p.words[i] = 0;
      if (t + pos >= 0 && t + pos < length && d + c < channels) load(p, from + (i64)(t + pos) * m.l + d + c);
#pragma unroll
      for (int i = 0; i < E; i++) tile[(c + i) * PITCH(COUNT) + PADDED(pos)] = get(p, i);
    }
  } else {
    const int E = 16 / (int)sizeof(T), VECTORS = SIDE / E;
    if (ALONG == 3) {
#pragma unroll 2
      for (int e = threadIdx.x; e < SIDE * VECTORS; e += THREADS) {
        const int pos = FIRST + e % VECTORS * E, c = e / VECTORS;
        Pack<T, E> p;
#pragma unroll
        for (int i = 0; i < Pack<T, E>::WORDS; i++) p.words[i] = 0;
        if (t + pos < length && d + c < channels) load(p, from + (i64)(d + c) * m.d + t + pos);
#pragma unroll
        for (int i = 0; i < E; i++) tile[c * PITCH(COUNT) + PADDED(pos + i)] = get(p, i);
      }
    }
    const int REST = ALONG == 3 ? COUNT - SIDE : COUNT;            // positions that are left, those before the tile first
#pragma unroll 4
    for (int e = threadIdx.x; e < REST * SIDE; e += THREADS) {
      const int r = ALONG == 1 ? e / SIDE : e % (REST ? REST : 1), c = ALONG == 1 ? e % SIDE : e / (REST ? REST : 1);
      const int pos = ALONG == 3 && r >= FIRST ? r + SIDE : r;
      float v = 0.f;
      if (t + pos >= 0 && t + pos < length && d + c < channels) v = read(from + (i64)(d + c) * m.d + (i64)(t + pos) * m.l);
      tile[c * PITCH(COUNT) + PADDED(pos)] = v;
    }
  }
}
// the same for what is before the start of x, which the first w - 1 positions of a tile are
template <int COUNT> DEVICE void fill_before(float* tile, const Conv& s, int b, int d) {
  for (int e = threadIdx.x; e < BEFORE * SIDE; e += THREADS) {
    const int pos = e % (WIDTH > 1 ? BEFORE : 1), c = e / (WIDTH > 1 ? BEFORE : 1);
    if (d + c < s.channels) tile[c * PITCH(COUNT) + PADDED(pos)] = before(s, b, d + c, pos - BEFORE);
  }
}

// Where a thread is among aligned rows: its positions are begin, begin + LANES * SPAN ..., before end.
struct Place { int row, b, d, segment, begin, end; bool there; };
DEVICE Place place_of(const Conv& s) {
  const u32 group = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES, row = group / s.segments;
  Place p;
  p.there = row < (u32)(s.batch * s.channels);
  p.segment = group - row * s.segments;
  p.row = p.there ? row : 0;
  p.b = p.row / s.channels; p.d = p.row - p.b * s.channels;
  const int first = p.segment * s.segment;
  p.begin = first + threadIdx.x % LANES * SPAN;
  p.end = !p.there ? 0 : first + s.segment < s.length ? first + s.segment : s.length;
  return p;
}
// Neighbours around a thread's own SPAN positions, enough for the filter, in one load.
#define HALO (BEFORE <= 4 ? 4 : 8)
template <class T> DEVICE void row(float* v, int first, int count, const T* at, bool there) {
  // positions first .. first + count of HALO from `at`
  Pack<T, HALO> p;
#pragma unroll
  for (int i = 0; i < Pack<T, HALO>::WORDS; i++) p.words[i] = 0;
  if (there) load(p, at);
#pragma unroll
  for (int i = 0; i < HALO; i++)
    if (i >= first && i < first + count) v[i - first] = get(p, i);
}
template <class T> DEVICE void own(float* v, const T* at) {
  Pack<T, SPAN> p;
  load(p, at);
#pragma unroll
  for (int i = 0; i < SPAN; i++) v[i] = get(p, i);
}
