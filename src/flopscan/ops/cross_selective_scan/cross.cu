// The cross scan and the cross merge: an image in four orders, and four sequences summed to an image, in one pass each.
//
// A block has a tile of the image of a few channels in shared memory: the whole image where it is small. Rows are read
// and written with j fastest, columns with i fastest, so that neighbouring threads touch neighbouring positions in every
// order. The pitch of a row in shared memory is odd: columns then fall on different banks.
//
// Compiled by NVRTC, without headers; a test compiles the same text as C++ and brings its own intrinsics
// (FLOPSCAN_EMULATED). Macros: TX and TY are the dtypes of the image and of the sequences.

#ifndef FLOPSCAN_EMULATED
typedef unsigned short u16;
typedef unsigned int u32;
struct __align__(16) words4 { u32 x, y, z, w; };
#define DEVICE __device__ __forceinline__
DEVICE float as_float(u32 x) { return __uint_as_float(x); }
DEVICE float from_half(u16 x) { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x)); return y; }
DEVICE u32 pack_half(float lo, float hi) { u32 y; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(hi), "f"(lo)); return y; }
DEVICE u32 pack_bfloat(float lo, float hi) { u32 y; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(hi), "f"(lo)); return y; }
DEVICE void sync_block() { __syncthreads(); }
#define SHARED_MEMORY(name) extern __shared__ words4 name[]
#define LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#endif

typedef long long i64;
struct half_t { u16 bits; };
struct bfloat_t { u16 bits; };
#define THREADS 256

DEVICE float read(float x) { return x; }
DEVICE float read(half_t x) { return from_half(x.bits); }
DEVICE float read(bfloat_t x) { return as_float((u32)x.bits << 16); }
DEVICE void write(float* at, float x) { *at = x; }
DEVICE void write(half_t* at, float x) { at->bits = (u16)pack_half(x, 0.f); }
DEVICE void write(bfloat_t* at, float x) { at->bits = (u16)pack_bfloat(x, 0.f); }

// Mirrored in cuda.py. Strides in elements; the sequences are b 4 d l, in one piece.
struct Cross {
  void *x, *y;
  i64 x_b, x_d, x_h, x_w;
  int batch, channels, height, width;
  int rows, tile_h, tile_w;                                        // channels and pixels of a tile
};

// Where a block is: its batch, its first channel and pixel.
struct Tile {
  int b, d, i, j;
  DEVICE Tile(const Cross& s, int block) {
    int across = (s.width + s.tile_w - 1) / s.tile_w, down = (s.height + s.tile_h - 1) / s.tile_h;
    int bands = (s.channels + s.rows - 1) / s.rows;
    j = block % across * s.tile_w; block /= across;
    i = block % down * s.tile_h; block /= down;
    d = block % bands * s.rows; b = block / bands;
  }
};

// Element e of a tile, counted along rows or along columns.
struct Element {
  int d, i, j, at;                                                 // channel, pixel, place in shared memory
  bool inside;
  DEVICE Element(const Cross& s, const Tile& tile, int e, bool by_column) {
    int fast = by_column ? s.tile_h : s.tile_w, slow = by_column ? s.tile_w : s.tile_h;
    int first = e % fast, rest = e / fast, second = rest % slow, r = rest / slow;
    int di = by_column ? first : second, dj = by_column ? second : first;
    at = (r * s.tile_h + di) * (s.tile_w | 1) + dj;
    d = tile.d + r; i = tile.i + di; j = tile.j + dj;
    inside = d < s.channels && i < s.height && j < s.width;
  }
  // Where direction k of this channel begins, and the step at which directions 0 and 1 come by this pixel.
  DEVICE i64 sequence(const Cross& s, const Tile& tile, int k) const {
    return ((i64)(tile.b * 4 + k) * s.channels + d) * s.height * s.width;
  }
  DEVICE int step(const Cross& s, bool by_column) const { return by_column ? j * s.height + i : i * s.width + j; }
};

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, 4) cross_scan(const Cross s) {
  SHARED_MEMORY(memory);
  float* shared = (float*)memory;
  const TX* x = (const TX*)s.x;
  TY* y = (TY*)s.y;
  const Tile tile(s, blockIdx.x);
  const int count = s.rows * s.tile_h * s.tile_w, last = s.height * s.width - 1;
  for (int e = threadIdx.x; e < count; e += THREADS) {
    const Element p(s, tile, e, false);
    if (!p.inside) continue;
    const float v = read(x[tile.b * s.x_b + p.d * s.x_d + p.i * s.x_h + p.j * s.x_w]);
    shared[p.at] = v;
    write(y + p.sequence(s, tile, 0) + p.step(s, false), v);
    write(y + p.sequence(s, tile, 2) + last - p.step(s, false), v);
  }
  sync_block();
  for (int e = threadIdx.x; e < count; e += THREADS) {
    const Element p(s, tile, e, true);
    if (!p.inside) continue;
    const float v = shared[p.at];
    write(y + p.sequence(s, tile, 1) + p.step(s, true), v);
    write(y + p.sequence(s, tile, 3) + last - p.step(s, true), v);
  }
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, 4) cross_merge(const Cross s) {
  SHARED_MEMORY(memory);
  float* shared = (float*)memory;
  TX* x = (TX*)s.x;
  const TY* y = (const TY*)s.y;
  const Tile tile(s, blockIdx.x);
  const int count = s.rows * s.tile_h * s.tile_w, last = s.height * s.width - 1;
  for (int e = threadIdx.x; e < count; e += THREADS) {
    const Element p(s, tile, e, true);
    if (!p.inside) continue;
    const int t = p.step(s, true);
    shared[p.at] = read(y[p.sequence(s, tile, 1) + t]) + read(y[p.sequence(s, tile, 3) + last - t]);
  }
  sync_block();
  for (int e = threadIdx.x; e < count; e += THREADS) {
    const Element p(s, tile, e, false);
    if (!p.inside) continue;
    const int t = p.step(s, false);
    const float rows = read(y[p.sequence(s, tile, 0) + t]) + read(y[p.sequence(s, tile, 2) + last - t]);
    write(x + tile.b * s.x_b + p.d * s.x_d + p.i * s.x_h + p.j * s.x_w, rows + shared[p.at]);
  }
}
