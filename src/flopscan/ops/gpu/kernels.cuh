// The beginning of every kernel's source: intrinsics, dtypes, a few neighbours at a time, and some mathematics.
//
// Compiled by NVRTC, without headers: what CUDA has no function for is PTX. A test compiles the same text as C++ and
// brings its own intrinsics (FLOPSCAN_EMULATED).

typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;

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
// load_once: what no kernel writes meanwhile; not in asm, which the compiler moves to where nothing was asked for.
// load_now: what this thread writes later.
template <class V> DEVICE V load_once(const V* at);
template <> DEVICE words4 load_once(const words4* at) { uint4 v = __ldg((const uint4*)at); return words4{v.x, v.y, v.z, v.w}; }
template <> DEVICE words2 load_once(const words2* at) { uint2 v = __ldg((const uint2*)at); return words2{v.x, v.y}; }
template <> DEVICE u32 load_once(const u32* at) { return __ldg(at); }
template <> DEVICE u16 load_once(const u16* at) { return __ldg(at); }
DEVICE words4 load_now(const words4* at) {
  words4 v;
  asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at) : "memory");
  return v;
}
DEVICE words2 load_now(const words2* at) {
  words2 v; asm volatile("ld.global.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(at) : "memory"); return v;
}
DEVICE u32 load_now(const u32* at) { u32 v; asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(at) : "memory"); return v; }
DEVICE void store_now(words4* at, words4 v) {
  asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};" :: "l"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
DEVICE float shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE float shuffle_up(float v, int by) { return __shfl_up_sync(0xffffffffu, v, by); }
DEVICE float shuffle_down(float v, int by) { return __shfl_down_sync(0xffffffffu, v, by); }
DEVICE float shuffle_from(float v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
DEVICE void stop() { asm volatile("trap;"); }
DEVICE void sync_warp() { __syncwarp(); }
DEVICE void sync_block() { __syncthreads(); }
DEVICE void sync_some(int barrier, int threads) { asm volatile("bar.sync %0, %1;" :: "r"(barrier), "r"(threads) : "memory"); }
DEVICE bool all_of_block(bool x) { return __syncthreads_and(x); }
DEVICE void add_to(float* at, float v) { asm volatile("red.global.add.f32 [%0], %1;" :: "l"(at), "f"(v) : "memory"); }
// A pointer that the compiler must keep: it cannot see where it comes from.
template <class T> DEVICE T* opaque(T* p) { asm volatile("" : "+l"(p)); return p; }
DEVICE int opaque(int x) { asm volatile("" : "+r"(x)); return x; }
#define SHARED_MEMORY(name) extern __shared__ words4 name[]
#define LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#endif

#define LOG2E 1.4426950408889634f

struct half_t { u16 bits; };
struct bfloat_t { u16 bits; };
DEVICE float value(float x) { return x; }
DEVICE float value(half_t x) { return from_half(x.bits); }
DEVICE float value(bfloat_t x) { return as_float((u32)x.bits << 16); }
DEVICE void write(float* at, float x) { *at = x; }
DEVICE void write(half_t* at, float x) { at->bits = (u16)pack_half(x, 0.f); }
DEVICE void write(bfloat_t* at, float x) { at->bits = (u16)pack_bfloat(x, 0.f); }
template <class T> DEVICE float rounded(float x) { T y; write(&y, x); return value(y); }
DEVICE float read(const float* at) { return as_float(load_once((const u32*)at)); }
DEVICE float read(const half_t* at) { return from_half(load_once((const u16*)at)); }
DEVICE float read(const bfloat_t* at) { return as_float((u32)load_once((const u16*)at) << 16); }

// E neighbours as they lie in memory.
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
// They start at a multiple of their bytes, 16 at most.
template <class T, int E> DEVICE void load(Pack<T, E>& p, const T* at) {
  if (Pack<T, E>::WORDS % 4 == 0) {
#pragma unroll
    for (int i = 0; i < Pack<T, E>::WORDS / 4; i++) {
      const words4 v = load_once((const words4*)at + i);
      p.words[4 * i] = v.x; p.words[4 * i + 1] = v.y; p.words[4 * i + 2] = v.z; p.words[4 * i + 3] = v.w;
    }
  } else if (Pack<T, E>::WORDS == 2) {
    const words2 v = load_once((const words2*)at);
    p.words[0] = v.x; p.words[Pack<T, E>::WORDS - 1] = v.y;
  } else {
#pragma unroll
    for (int i = 0; i < Pack<T, E>::WORDS; i++) p.words[i] = load_once((const u32*)at + i);
  }
}
// 4, 8 or 16 bytes that this thread writes later
template <class T, int E> DEVICE void load_own(Pack<T, E>& p, const T* at) {
  const int LAST = Pack<T, E>::WORDS - 1;
  if (LAST == 3) {
    const words4 v = load_now((const words4*)at);
    p.words[0] = v.x; p.words[LAST > 1 ? 1 : 0] = v.y; p.words[LAST > 2 ? 2 : 0] = v.z; p.words[LAST] = v.w;
  } else if (LAST == 1) {
    const words2 v = load_now((const words2*)at);
    p.words[0] = v.x; p.words[LAST] = v.y;
  } else {
    p.words[0] = load_now((const u32*)at);
  }
}
template <class T, int E> DEVICE void store(T* at, const Pack<T, E>& p) {
  if (Pack<T, E>::WORDS % 4 == 0) {
#pragma unroll
    for (int i = 0; i < Pack<T, E>::WORDS / 4; i++)
      store_now((words4*)at + i, words4{p.words[4 * i], p.words[4 * i + 1], p.words[4 * i + 2], p.words[4 * i + 3]});
  } else if (Pack<T, E>::WORDS == 2) {
    *(words2*)at = words2{p.words[0], p.words[Pack<T, E>::WORDS - 1]};
  } else {
#pragma unroll
    for (int i = 0; i < Pack<T, E>::WORDS; i++) ((u32*)at)[i] = p.words[i];
  }
}

template <class T, int E> DEVICE void store_values(T* at, const float (&values)[E]) {
  Pack<T, E> p;
  set(p, values);
  store(at, p);
}

// log1p on [0, 1], right to a relative 1.3e-7 (least maximum fit)
DEVICE float log1p_unit_float(float e) {
  float p = 5.232629366e-3f;
  p = p * e - 2.950498648e-2f;
  p = p * e + 7.822556049e-2f;
  p = p * e - 1.366321445e-1f;
  p = p * e + 1.910599321e-1f;
  p = p * e - 2.484297901e-1f;
  p = p * e + 3.331909776e-1f;
  p = p * e - 4.999949336e-1f;
  p = p * e + 9.999999404e-1f;
  return p * e;
}
DEVICE float sigmoid(float x) { return reciprocal(1.f + exp2_hw(x * -LOG2E)); }
