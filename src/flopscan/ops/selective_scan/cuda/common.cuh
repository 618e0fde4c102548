// What every kernel of the selective scan shares: operands, loads of a few neighbouring positions, and the mathematics.
//
// After gpu/kernels.cuh. Macros choose the form: TU, TD, TZ, TB, TC, TO are the dtypes of u, delta, z, B, C and the
// output; WARPS is the number of warps of a block.

// a decay below 2^-DECAYED is nothing beside what follows it
#define DECAYED 100.f

// Operands and results, in elements; a pointer is null where the operand is absent. Mirrored in cuda.py.
struct Matrix { const void* at; i64 b, d, l; i64 align; };         // b d l; align: bytes that every row starts at a multiple of
struct Grouped { const void* at; i64 b, g, n, l; i64 align; };     // b g n l
struct Scan {
  Matrix u, delta, z, grad;
  Grouped B, C;
  const float *A, *D, *bias, *initial, *grad_last;                 // d n | d | d | b d n | b d n, contiguous
  void *out, *grad_u, *grad_delta, *grad_z;                        // b d l, contiguous
  float *last, *saved;                                             // b d n | b chunks d n
  float *grad_B, *grad_C;                                          // [blocks] b g n l
  float *grad_channel;                                             // b segments: of A (d n), of D (d), of bias (d), to be added up
  float *grad_initial;                                             // b d n
  float *edge, *edge_sum;                                          // segments b d n | segments b d: what crosses into the next segment
  float *mid;                                                      // segments b d tiles n: states before the tiles of a chunk; or null
  i64 part;                                                        // between the parts of grad_B and of grad_C; 0: add to one
  int batch, channels, length, states, groups, softplus;
  int segment, segments;                                           // positions in a segment (whole tiles; backward: chunks), their number
  int chunk;                                                       // positions from one kept state to the next: a power of two, whole tiles
  int out_align;
};

// log1p on [0, 1], right to a relative 1.3e-7, and 9e-6 where delta has 16 bits (least maximum fits).
DEVICE float log1p_unit(float e) {
  if (sizeof(TD) == 4) return log1p_unit_float(e);
  float p = -2.386887930e-2f;
  p = p * e + 1.012216359e-1f;
  p = p * e - 2.100481689e-1f;
  p = p * e + 3.252065182e-1f;
  p = p * e - 4.993613362e-1f;
  p = p * e + 9.999915957e-1f;
  return p * e;
}
DEVICE float exp_minus_abs(float x) { return exp2_hw(fabsf(x) * -LOG2E); }
// softplus: max(x, 0) + log1p(e) with e = exp(-|x|), so no step is lost where e is tiny; a NaN stays, by e
DEVICE float softplus(float x, float e) { return log1p_unit(e) + fmaxf(x, 0.f); }
// its derivative, 1 / (1 + exp(-x))
DEVICE float softplus_slope(float x, float e) { return (x < 0.f ? e : 1.f) * reciprocal(1.f + e); }

template <int SIZE> struct Bits;
template <> struct Bits<2> { typedef u16 type; };
template <> struct Bits<4> { typedef u32 type; };

// The positions [t, t + E) of a row of `length`, zero beyond it.
template <class T, int E> DEVICE void load(Pack<T, E>& p, const T* row, i64 step, int t, int length, int align) {
  const int BYTES = E * sizeof(T), HALF = 8 / sizeof(T);
  const T* at = row + (i64)t * step;
  if (t + E <= length && align >= 4) {
    if (BYTES % 16 == 0 && align >= 16) {
#pragma unroll
      for (int i = 0; i < Pack<T, E>::WORDS / 4; i++) {
        words4 v = load_once((const words4*)at + i);
        p.words[4 * i] = v.x; p.words[4 * i + 1] = v.y; p.words[4 * i + 2] = v.z; p.words[4 * i + 3] = v.w;
      }
    } else if (BYTES % 8 == 0 && align >= 8) {
#pragma unroll
      for (int i = 0; i < Pack<T, E>::WORDS / 2; i++) {
        words2 v = load_once((const words2*)at + i);
        p.words[2 * i] = v.x; p.words[2 * i + 1] = v.y;
      }
    } else {
#pragma unroll
      for (int i = 0; i < Pack<T, E>::WORDS; i++) p.words[i] = load_once((const u32*)at + i);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < Pack<T, E>::WORDS; i++) p.words[i] = 0;
  if (BYTES % 8 == 0 && align >= 8 && length % HALF == 0) {   // the end is a whole number of these
#pragma unroll
    for (int i = 0; i < Pack<T, E>::WORDS / 2; i++)
      if (t + (i + 1) * HALF <= length) {
        words2 v = load_once((const words2*)at + i);
        p.words[2 * i] = v.x; p.words[2 * i + 1] = v.y;
      }
    return;
  }
  typedef typename Bits<sizeof(T)>::type word;
#pragma unroll
  for (int i = 0; i < E; i++)
    if (t + i < length) p.words[i * (int)sizeof(T) / 4] |= (u32)load_once((const word*)(at + i * step)) << (i * 8 * (int)sizeof(T) & 31);
}

// The positions [t, t + E) of a row of `length`, as far as it goes.
template <class T, int E> DEVICE void store(T* row, int t, int length, int align, const float (&values)[E]) {
  const int BYTES = E * sizeof(T), HALF = 8 / sizeof(T);
  Pack<T, E> p;
  set(p, values);
  T* at = row + t;
  if (t + E <= length && align >= 4) {
    if (BYTES % 16 == 0 && align >= 16) {
#pragma unroll
      for (int i = 0; i < Pack<T, E>::WORDS / 4; i++)
        store_now((words4*)at + i, words4{p.words[4 * i], p.words[4 * i + 1], p.words[4 * i + 2], p.words[4 * i + 3]});
    } else if (BYTES % 8 == 0 && align >= 8) {
#pragma unroll
      for (int i = 0; i < Pack<T, E>::WORDS / 2; i++) ((words2*)at)[i] = words2{p.words[2 * i], p.words[2 * i + 1]};
    } else {
#pragma unroll
      for (int i = 0; i < Pack<T, E>::WORDS; i++) ((u32*)at)[i] = p.words[i];
    }
    return;
  }
  if (BYTES % 8 == 0 && align >= 8 && length % HALF == 0) {
#pragma unroll
    for (int i = 0; i < Pack<T, E>::WORDS / 2; i++)
      if (t + (i + 1) * HALF <= length) ((words2*)at)[i] = words2{p.words[2 * i], p.words[2 * i + 1]};
    return;
  }
  typedef typename Bits<sizeof(T)>::type word;
#pragma unroll
  for (int i = 0; i < E; i++)
    if (t + i < length) ((word*)at)[i] = (word)(p.words[i * (int)sizeof(T) / 4] >> (i * 8 * (int)sizeof(T) & 31));
}
