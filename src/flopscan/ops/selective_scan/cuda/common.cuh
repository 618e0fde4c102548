// What every kernel of the selective scan shares: operands, loads of a few neighbouring positions, and the mathematics.
//
// Compiled by NVRTC, without headers: intrinsics are PTX. A test compiles the same text as C++ and brings its own
// (FLOPSCAN_EMULATED). Macros choose the form: TU, TD, TZ, TB, TC, TO are the dtypes of u, delta, z, B, C and the
// output; WARPS is the number of warps of a block.

typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
struct half_t { u16 bits; };
struct bfloat_t { u16 bits; };

#ifndef FLOPSCAN_EMULATED
struct __align__(8) words2 { u32 x, y; };
struct __align__(16) words4 { u32 x, y, z, w; };
#define DEVICE __device__ __forceinline__
DEVICE float as_float(u32 x) { return __uint_as_float(x); }
DEVICE u32 as_bits(float x) { return __float_as_uint(x); }
DEVICE float exp2_hw(float x) { float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
DEVICE float reciprocal(float x) { float y; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
DEVICE float from_half(u16 x) { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x)); return y; }
DEVICE u32 pack_half(float lo, float hi) { u32 y; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(hi), "f"(lo)); return y; }
DEVICE u32 pack_bfloat(float lo, float hi) { u32 y; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(hi), "f"(lo)); return y; }
template <class V> DEVICE V load_once(const V* at);
template <> DEVICE words4 load_once(const words4* at) { uint4 v = __ldg((const uint4*)at); return words4{v.x, v.y, v.z, v.w}; }
template <> DEVICE words2 load_once(const words2* at) { uint2 v = __ldg((const uint2*)at); return words2{v.x, v.y}; }
template <> DEVICE u32 load_once(const u32* at) { return __ldg(at); }
template <> DEVICE u16 load_once(const u16* at) { return __ldg(at); }
// A pointer that the compiler must keep: it cannot see where it comes from.
template <class T> DEVICE T* opaque(T* p) { asm volatile("" : "+l"(p)); return p; }
DEVICE int opaque(int x) { asm volatile("" : "+r"(x)); return x; }
DEVICE void store_now(words4* at, words4 v) {
  asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};" :: "l"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
DEVICE float shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE float shuffle_up(float v, int by) { return __shfl_up_sync(0xffffffffu, v, by); }
DEVICE float shuffle_down(float v, int by) { return __shfl_down_sync(0xffffffffu, v, by); }
DEVICE float shuffle_from(float v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
DEVICE void sync_warp() { __syncwarp(); }
DEVICE void sync_block() { __syncthreads(); }
DEVICE void sync_some(int barrier, int threads) { asm volatile("bar.sync %0, %1;" :: "r"(barrier), "r"(threads) : "memory"); }
DEVICE bool all_of_block(bool x) { return __syncthreads_and(x); }
DEVICE void add_to(float* at, float v) { asm volatile("red.global.add.f32 [%0], %1;" :: "l"(at), "f"(v) : "memory"); }
#define SHARED_MEMORY(name) extern __shared__ words4 name[]
#define LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#endif

#define LOG2E 1.4426950408889634f
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
  float p;
  if (sizeof(TD) == 4) {
    p = 5.232629366e-3f;
    p = p * e - 2.950498648e-2f;
    p = p * e + 7.822556049e-2f;
    p = p * e - 1.366321445e-1f;
    p = p * e + 1.910599321e-1f;
    p = p * e - 2.484297901e-1f;
    p = p * e + 3.331909776e-1f;
    p = p * e - 4.999949336e-1f;
    p = p * e + 9.999999404e-1f;
  } else {
    p = -2.386887930e-2f;
    p = p * e + 1.012216359e-1f;
    p = p * e - 2.100481689e-1f;
    p = p * e + 3.252065182e-1f;
    p = p * e - 4.993613362e-1f;
    p = p * e + 9.999915957e-1f;
  }
  return p * e;
}
DEVICE float exp_minus_abs(float x) { return exp2_hw(fabsf(x) * -LOG2E); }
// softplus: max(x, 0) + log1p(e) with e = exp(-|x|), so no step is lost where e is tiny; a NaN stays, by e
DEVICE float softplus(float x, float e) { return log1p_unit(e) + fmaxf(x, 0.f); }
// its derivative, 1 / (1 + exp(-x))
DEVICE float softplus_slope(float x, float e) { return (x < 0.f ? e : 1.f) * reciprocal(1.f + e); }
DEVICE float sigmoid(float x) { return reciprocal(1.f + exp2_hw(x * -LOG2E)); }

// E neighbouring positions of a row, as they lie in memory.
template <class T, int E> struct Pack {
  static const int WORDS = E * (int)sizeof(T) / 4;
  static_assert(E * sizeof(T) % 4 == 0, "whole words");
  u32 words[WORDS];
};
template <int E> DEVICE float get(const Pack<float, E>& p, int i) { return as_float(p.words[i]); }
template <int E> DEVICE float get(const Pack<bfloat_t, E>& p, int i) {
  return as_float(i & 1 ? p.words[i / 2] & 0xffff0000u : p.words[i / 2] << 16);
}
template <int E> DEVICE float get(const Pack<half_t, E>& p, int i) {
  return from_half((u16)(i & 1 ? p.words[i / 2] >> 16 : p.words[i / 2] & 0xffffu));
}
template <int E> DEVICE void set(Pack<float, E>& p, const float (&v)[E]) {
#pragma unroll
  for (int i = 0; i < E; i++) p.words[i] = as_bits(v[i]);
}
template <int E> DEVICE void set(Pack<bfloat_t, E>& p, const float (&v)[E]) {
#pragma unroll
  for (int i = 0; i < E; i += 2) p.words[i / 2] = pack_bfloat(v[i], v[i + 1]);
}
template <int E> DEVICE void set(Pack<half_t, E>& p, const float (&v)[E]) {
#pragma unroll
  for (int i = 0; i < E; i += 2) p.words[i / 2] = pack_half(v[i], v[i + 1]);
}
template <class T, int E> DEVICE void clear(Pack<T, E>& p) {
#pragma unroll
  for (int i = 0; i < Pack<T, E>::WORDS; i++) p.words[i] = 0;
}
template <int SIZE> struct Bits;
template <> struct Bits<2> { typedef u16 type; };
template <> struct Bits<4> { typedef u32 type; };

// E positions that start at a multiple of their bytes, 16 at most.
template <class T, int E> DEVICE void load_whole(Pack<T, E>& p, const T* at) {
  if (Pack<T, E>::WORDS % 4 == 0) {
#pragma unroll
    for (int i = 0; i < Pack<T, E>::WORDS / 4; i++) {
      words4 v = load_once((const words4*)at + i);
      p.words[4 * i] = v.x; p.words[4 * i + 1] = v.y; p.words[4 * i + 2] = v.z; p.words[4 * i + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < Pack<T, E>::WORDS; i++) p.words[i] = load_once((const u32*)at + i);
  }
}
template <class T, int E> DEVICE void store_whole(T* at, const float (&values)[E]) {
  Pack<T, E> p;
  set(p, values);
  if (Pack<T, E>::WORDS % 4 == 0) {
#pragma unroll
    for (int i = 0; i < Pack<T, E>::WORDS / 4; i++)
      store_now((words4*)at + i, words4{p.words[4 * i], p.words[4 * i + 1], p.words[4 * i + 2], p.words[4 * i + 3]});
  } else {
#pragma unroll
    for (int i = 0; i < Pack<T, E>::WORDS; i++) ((u32*)at)[i] = p.words[i];
  }
}

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
