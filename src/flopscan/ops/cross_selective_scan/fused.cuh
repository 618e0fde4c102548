// What the forward and the backward of the fused cross scan share: who works on what, the image in shared memory, loads.
//
// A block has CHANNELS channels of one batch element, whole. A warp walks in one of the four directions, and LANES of its
// lanes, SPAN positions each, are one channel: a chunk. WARPS warps go in the same direction. Whether a direction goes
// onward or back, a chunk is the same pixels, and lanes hold them in the order of the image: one that goes back scans from
// the last lane to the first, and reverses what it loads.
//
// Directions by row read the image as it lies. Those by column have it in shared memory, column by column, so that what a
// lane has is 16 bytes in either. The outputs are added up in shared memory in float32, those by row and those by column
// apart. Two directions add to each sum: as they come from its two ends, the first that comes to a pixel writes it and the
// other adds, and they wait for each other once, in the middle. The two sums are added when all is done:
// (row onward + row back) + (column onward + column back).
//
// Needs: SPAN, LANES, WARPS, SOFTPLUS; of delta, B and C ALIGN, the bytes that rows start and end at multiples of, 0 if
// they are scattered; WHOLE, whether l is a multiple of SPAN and of 8; IMAGE, the bytes of an image that can be loaded at
// once, 0 if pixels are scattered; SIDE, 4, 2 or 1, of which the width is a multiple; OUT_ALIGN, as ALIGN of the output.

typedef unsigned long long u64;
#define CHUNK (LANES * SPAN)
#define GROUPS (32 / LANES)
#define CHANNELS (GROUPS * WARPS)
#define DIRECTION_THREADS (32 * WARPS)
#define THREADS (4 * DIRECTION_THREADS)

// Mirrored in fused.py. The images are b d l, delta is b k d l, B and C are b k n l.
struct Fused {
  Matrix x, grad;
  Grouped delta, B, C;
  const float *A, *D, *bias;                                       // 4 d, contiguous
  void *out, *grad_x, *grad_delta;                                 // b d l | b d l | b 4 d l, contiguous
  float *saved;                                                    // b 4 chunks d
  float *grad_B, *grad_C;                                          // [blocks] b 4 l
  float *grad_channel;                                             // b 3 4d: what is added to A, D and bias
  i64 part;                                                        // between the parts of grad_B and of grad_C; 0: add to one
  int batch, channels, height, width;
};

struct Spot {
  int lane, warp, batch, block, first;   // first: the first channel of this block
  int direction, row, channel;           // row: the channel within the block
  int length, own, padded, chunks;       // own: the length, 0 where there is no such channel; padded: whole runs of 8
};
DEVICE Spot spot_of(const Fused& s) {
  Spot p;
  const int thread = opaque((int)threadIdx.x), index = opaque((int)blockIdx.x);   // found anew where it is asked for again
  p.lane = thread & 31; p.warp = thread >> 5;
  int blocks = (s.channels + CHANNELS - 1) / CHANNELS;
  p.block = index % blocks; p.batch = index / blocks;
  p.first = p.block * CHANNELS;
  p.direction = p.warp % 4;   // a scheduler has the warps of one direction, and so one loop
  p.row = p.warp / 4 * GROUPS + p.lane / LANES;
  p.channel = p.first + p.row;
  p.length = s.height * s.width;
  p.own = p.channel < s.channels ? p.length : 0;
  p.padded = (p.length + 7) & ~7;
  p.chunks = (p.length + CHUNK - 1) / CHUNK;
  return p;
}
// Of b 4 d: where this channel of this direction is.
DEVICE i64 channel_of(const Fused& s, const Spot& p) { return (i64)(p.batch * 4 + p.direction) * s.channels + p.channel; }
DEVICE bool by_column(const Spot& p) { return p.direction & 1; }
DEVICE bool onward(const Spot& p) { return p.direction < 2; }
// Lanes 8 words apart would share their banks, four by four: half of them swap their halves.
DEVICE int swizzled(int t) { return t ^ (t >> 3 & 4); }

// Wait for the warps of the other direction that adds to the same sum, or for those of the same direction.
DEVICE void meet_opposite(const Spot& p) { sync_some(1 + (p.direction & 1), 2 * DIRECTION_THREADS); }
DEVICE void meet_same(const Spot& p) {
  if (WARPS == 1) sync_warp();
  else sync_some(3 + p.direction, DIRECTION_THREADS);
}

// Positions [t, t + SPAN) of 16 bits that begin in the middle of a word, or do not: the words that they lie in, moved.
template <class T> DEVICE void load_halves(Pack<T, SPAN>& p, const T* at, int t, int length) {
  const int odd = (int)((i64)at >> 1) & 1, shift = 16 * odd;
  const u32* from = (const u32*)((i64)at - 2 * odd);
  u32 words[SPAN / 2 + 1];
#pragma unroll
  for (int i = 0; i <= SPAN / 2; i++) {
    const int first = t + 2 * i - odd;
    words[i] = first + 1 >= 0 && first < length && (odd || i < SPAN / 2) ? load_once(from + i) : 0;
  }
#pragma unroll
  for (int i = 0; i < SPAN / 2; i++) {
    const bool low = (u32)(t + 2 * i) < (u32)length, high = (u32)(t + 2 * i + 1) < (u32)length;
    p.words[i] = (u32)(((u64)words[i + 1] << 32 | words[i]) >> shift) & ((low ? 0xffffu : 0) | (high ? 0xffff0000u : 0));
  }
}
// The positions [t, t + SPAN) of a row of `length`, zero where there are none; `at` is where the first would be.
template <int ALIGNED, class T> DEVICE void load_run(Pack<T, SPAN>& p, const T* at, i64 step, int t, int length) {
  const int BYTES = SPAN * sizeof(T), HALF = 8 / sizeof(T);
  if (ALIGNED == 2 && sizeof(T) == 2) { load_halves(p, at, t, length); return; }
  clear(p);
  const bool halves = BYTES % 8 == 0 && ALIGNED >= 8;   // then rows are a whole number of 8 bytes
  if (!(halves && ALIGNED == 8 && !WHOLE)) {
    if (WHOLE ? (u32)t < (u32)length : t >= 0 && t + SPAN <= length) { load(p, at, step, 0, SPAN, ALIGNED); return; }
    if (WHOLE) return;
  }
  if (halves) {
#pragma unroll
    for (int i = 0; i < Pack<T, SPAN>::WORDS / 2; i++)
      if ((u32)(t + i * HALF) < (u32)length) {
        words2 v = load_once((const words2*)at + i);
        p.words[2 * i] = v.x; p.words[2 * i + 1] = v.y;
      }
    return;
  }
  typedef typename Bits<sizeof(T)>::type word;
#pragma unroll
  for (int i = 0; i < SPAN; i++)
    if ((u32)(t + i) < (u32)length)
      p.words[i * (int)sizeof(T) / 4] |= (u32)load_once((const word*)(at + i * step)) << (i * 8 * (int)sizeof(T) & 31);
}
// What a direction loaded of the pixel i of a run.
template <bool UP, class T> DEVICE float get_run(const Pack<T, SPAN>& p, int i) { return get(p, UP ? i : SPAN - 1 - i); }

// A run of an image in shared memory, and of a sum.
template <class T> DEVICE void read_run(Pack<T, SPAN>& p, const T* image, int t, int length) {
  const int WORDS = Pack<T, SPAN>::WORDS;
  clear(p);
  if ((u32)t >= (u32)length) return;
  if (WORDS % 4 == 0) {
#pragma unroll
    for (int i = 0; i < WORDS / 4; i++) {
      words4 v = ((const words4*)(image + t))[i];
      p.words[4 * i] = v.x; p.words[4 * i + 1] = v.y; p.words[4 * i + 2] = v.z; p.words[4 * i + 3] = v.w;
    }
  } else if (WORDS % 2 == 0) {
#pragma unroll
    for (int i = 0; i < WORDS / 2; i++) {
      words2 v = ((const words2*)(image + t))[i];
      p.words[2 * i] = v.x; p.words[2 * i + 1] = v.y;
    }
  } else {
    p.words[0] = *(const u32*)(image + t);
  }
}
// Write, or add to, a run of a sum.
DEVICE void put_run(float* sum, int t, const float (&values)[SPAN], bool first) {
  const int at = swizzled(t);
  if (SPAN % 4 == 0) {
    words4* to[2] = {(words4*)(sum + at), (words4*)(sum + (at ^ 4))};
    words4 v[2];
    if (first) {
#pragma unroll
      for (int i = 0; i < SPAN / 4; i++)
        *to[i] = words4{as_bits(values[4 * i]), as_bits(values[4 * i + 1]), as_bits(values[4 * i + 2]), as_bits(values[4 * i + 3])};
    } else {
#pragma unroll
      for (int i = 0; i < SPAN / 4; i++) v[i] = *to[i];
#pragma unroll
      for (int i = 0; i < SPAN / 4; i++)
        *to[i] = words4{as_bits(as_float(v[i].x) + values[4 * i]), as_bits(as_float(v[i].y) + values[4 * i + 1]),
                        as_bits(as_float(v[i].z) + values[4 * i + 2]), as_bits(as_float(v[i].w) + values[4 * i + 3])};
    }
  } else {
    words2* to = (words2*)(sum + at);
    words2 v = words2{0, 0};
    if (!first) v = *to;
    *to = words2{as_bits(as_float(v.x) + values[0]), as_bits(as_float(v.y) + values[1])};
  }
}

template <int BYTES> struct Unit;
template <> struct Unit<2> { typedef u16 type; };
template <> struct Unit<4> { typedef u32 type; };
template <> struct Unit<8> { typedef words2 type; };
template <> struct Unit<16> { typedef words4 type; };

DEVICE int channels_here(const Fused& s, const Spot& p) { return s.channels - p.first < CHANNELS ? s.channels - p.first : CHANNELS; }
// a / b of small whole numbers: right below 2^21, where (a + 1/2) / b is further from one than the error of 2^-21.
DEVICE int quotient(int a, int b) { return (int)(((float)a + 0.5f) * reciprocal((float)b)); }
// The runs of N pixels of all channels of this block, row by row: `run` has the channel and the first pixel.
template <int N, class F> DEVICE void each_run(const Fused& s, const Spot& p, F run) {
  const int runs = (p.length + N - 1) / N, here = channels_here(s, p), down = quotient(THREADS, runs), rest = THREADS - down * runs;
  int c = quotient((int)threadIdx.x, runs), r = (int)threadIdx.x - c * runs;
#pragma unroll 1
  while (c < here) {
    run(c, r * N);
    c += down; r += rest;
    if (r >= runs) { r -= runs; c++; }
  }
}
// All rows of all channels of this block: `row` has the channel, the row, and of which runs of SIDE pixels it shall take
// care: the first, and from one to the next. Lanes have neighbouring rows, which are neighbours in the order of columns.
template <class F> DEVICE void each_row(const Fused& s, const Spot& p, F row) {
  const int rows = channels_here(s, p) * s.height, parts = rows < THREADS ? quotient(THREADS, rows) : 1;
  const int part = rows < THREADS ? quotient((int)threadIdx.x, rows) : 0;
  if (part < parts)
    for (int r = (int)threadIdx.x - part * rows; r < rows; r += THREADS) {
      const int c = quotient(r, s.height);
      row(c, r - c * s.height, part * SIDE, parts * SIDE);
    }
}

// An image of this block by column, CHANNELS of them, with zeros to a whole run of 8: first `bring` it as it lies to where
// the sums will be, then `turn` it.
template <class T> DEVICE T* staged(const Spot& p, float* sums, int which, int c) { return (T*)(sums + (2 * c + which) * p.padded); }
template <class T> DEVICE void bring(const Fused& s, const Spot& p, const Matrix& image, float* sums, int which) {
  typedef typename Bits<sizeof(T)>::type word;
  const word* from = (const word*)image.at + p.batch * image.b + p.first * image.d;
  if (IMAGE >= (int)sizeof(T)) {
    const int BYTES = IMAGE >= (int)sizeof(T) ? IMAGE : sizeof(T);
    typedef typename Unit<BYTES>::type unit;
    each_run<BYTES / (int)sizeof(T)>(s, p, [&](int c, int t) {
      *(unit*)(staged<word>(p, sums, which, c) + t) = load_once((const unit*)(from + c * image.d + t));
    });
  } else {
    each_run<1>(s, p, [&](int c, int t) { staged<word>(p, sums, which, c)[t] = load_once(from + c * image.d + t * image.l); });
  }
}
template <class T> DEVICE void turn(const Fused& s, const Spot& p, float* sums, int which, T* columns) {
  typedef typename Bits<sizeof(T)>::type word;
  typedef typename Unit<SIDE * sizeof(T)>::type side;
  const int height = s.height;
  each_row(s, p, [&](int c, int i, int j, int by) {
    const word* from = staged<word>(p, sums, which, c) + i * s.width;
    word* to = (word*)columns + c * p.padded + j * height + i;
#pragma unroll 2
    for (; j < s.width; j += by) {
      __align__(16) word v[SIDE];
      *(side*)v = *(const side*)(from + j);
#pragma unroll
      for (int n = 0; n < SIDE; n++) to[n * height] = v[n];
      to += by * height;
    }
  });
  const int rest = p.padded - p.length;
  if (!WHOLE)
    for (int e = (int)threadIdx.x; e < CHANNELS * rest; e += THREADS) {
      const int c = quotient(e, rest);
      ((word*)columns)[c * p.padded + p.length + e - c * rest] = 0;
    }
}

// Add the two sums of every channel of this block, and write them as an image b d l.
template <class T> DEVICE void give(const Fused& s, const Spot& p, float* sums, T* out) {
  const int height = s.height;
  each_row(s, p, [&](int c, int i, int j, int by) {
    typedef typename Unit<SIDE * 4>::type side;
    float* rows = sums + 2 * c * p.padded;
    const float* columns = rows + p.padded;
    const int end = (i + 1) * s.width;
    int at = i * s.width + j, across = j * height + i;
#pragma unroll 2
    for (; at < end; at += by) {
      float* to = rows + swizzled(at);
      __align__(16) float v[SIDE];
      *(side*)v = *(const side*)to;
#pragma unroll
      for (int n = 0; n < SIDE; n++) v[n] += columns[swizzled(across + n * height)];
      *(side*)to = *(const side*)v;
      across += by * height;
    }
  });
  sync_block();
  out += ((i64)p.batch * s.channels + p.first) * p.length;
  each_run<8>(s, p, [&](int c, int t) {
    const float* rows = sums + 2 * c * p.padded;
    const words4 low = *(const words4*)(rows + swizzled(t)), high = *(const words4*)(rows + (swizzled(t) ^ 4));
    const float v[8] = {as_float(low.x), as_float(low.y), as_float(low.z), as_float(low.w),
                        as_float(high.x), as_float(high.y), as_float(high.z), as_float(high.w)};
    store(out + (i64)c * p.length, t, p.length, OUT_ALIGN, v);
  });
}

// What a lane loads of its run ahead of its use: the three operands that differ by direction, in the order of the
// direction, and an image or two in their own order.
struct Ahead {
  const TD* delta_at;
  const TB* B_at;
  const TC* C_at;
  const TU* u_at;
  Pack<TD, SPAN> delta;
  Pack<TB, SPAN> B;
  Pack<TC, SPAN> C;
  Pack<TU, SPAN> u;
  int t;   // the first position of the run in the order of the direction
};
DEVICE int pixel_of(const Spot& p, int t) { return onward(p) ? t : p.length - SPAN - t; }
template <class T> DEVICE const T* pixels(const Spot& p, const Matrix& image, int t) {
  return (const T*)image.at + p.batch * image.b + p.channel * image.d + pixel_of(p, t) * image.l;
}
// Load the first run of a walk that begins with chunk `turn` of the direction.
DEVICE void begin(Ahead& in, const Fused& s, const Spot& p, int turn) {
  const int chunk = onward(p) ? turn : p.chunks - 1 - turn;
  in.t = pixel_of(p, chunk * CHUNK + p.lane % LANES * SPAN);
  in.delta_at = (const TD*)s.delta.at + p.batch * s.delta.b + p.direction * s.delta.g + p.channel * s.delta.n + in.t * s.delta.l;
  in.B_at = (const TB*)s.B.at + p.batch * s.B.b + p.direction * s.B.g + in.t * s.B.l;
  in.C_at = (const TC*)s.C.at + p.batch * s.C.b + p.direction * s.C.g + in.t * s.C.l;
  in.u_at = pixels<TU>(p, s.x, in.t);
  load_run<ALIGN>(in.delta, in.delta_at, s.delta.l, in.t, p.own);
  load_run<ALIGN>(in.B, in.B_at, s.B.l, in.t, p.own);
  load_run<ALIGN>(in.C, in.C_at, s.C.l, in.t, p.own);
  if (!by_column(p)) load_run<IMAGE>(in.u, in.u_at, s.x.l, pixel_of(p, in.t), p.own);
}
// The run that is BY positions on.
template <int BY, class T> DEVICE void load_next(Pack<T, SPAN>& p, const T*& at, i64 step, int t, int length) {
  at = opaque(at + BY * step);
  load_run<ALIGN>(p, at, step, t, length);
}
// The run of an image that is BY pixels on: from memory, or from its columns.
template <int BY, class T>
DEVICE void image_next(Pack<T, SPAN>& v, const Spot& p, const T*& at, i64 step, const T* columns, int pixel) {
  if (by_column(p)) { read_run(v, columns, pixel, p.own); return; }
  at = opaque(at + BY * step);
  load_run<IMAGE>(v, at, step, pixel, p.own);
}
