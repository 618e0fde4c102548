// The causal convolution. Macros besides: X_ALONG (how x is read into a tile); OUT_WHOLE: so are rows of the output.

// Rows that are aligned, of a length that is a multiple of SPAN: LANES lanes have a segment of one. What is before a
// thread's positions is in the first-level cache, where the thread before it has it from.
extern "C" __global__ void LAUNCH_BOUNDS(THREADS, 1) conv_rows(const Conv s) {
  const Place p = place_of(s);
  if (!p.there) return;
  const TX* x = (const TX*)s.x.at + p.b * s.x.b + p.d * s.x.d;
  TX* out = (TX*)s.out + (i64)p.row * s.length;
  const Filter f = filter_of(s, p.d);
  for (int t = p.begin; t < p.end; t += LANES * SPAN) {
    float v[SPAN + BEFORE], y[SPAN];
    own(v + BEFORE, x + t);
    row(v, HALO - BEFORE, BEFORE, x + t - HALO, t > 0);
    if (t == 0) {
#pragma unroll
      for (int i = 0; i < BEFORE; i++) v[i] = before(s, p.b, p.d, i - BEFORE);
    }
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
      y[i] = filtered(f, v + i);
      if (SILU) y[i] *= sigmoid(y[i]);
    }
    Pack<TX, SPAN> made;
    set(made, y);
    store(out + t, made);
  }
}

// Any strides: a block has a tile of channels and positions in shared memory.
extern "C" __global__ void LAUNCH_BOUNDS(THREADS, 1) conv_tiles(const Conv s) {
  SHARED_MEMORY(memory);
  float* tile = (float*)memory;
  const int COUNT = SIDE + BEFORE, across = (s.channels + SIDE - 1) / SIDE;
  const int b = blockIdx.y, d = blockIdx.x % across * SIDE, t = blockIdx.x / across * SIDE;
  fill<TX, X_ALONG, COUNT, BEFORE>(tile, s.x, b, d, t - BEFORE, s.channels, s.length);
  sync_block();
  if (t == 0) {
    fill_before<COUNT>(tile, s, b, d);
    sync_block();
  }
  TX* out = (TX*)s.out + ((i64)b * s.channels + d) * s.length + t;
  const int step = OUT_WHOLE ? 8 : 1;                              // positions of a thread at a time
  for (int e = threadIdx.x; e < SIDE * SIDE / step; e += THREADS) {
    const int c = e / (SIDE / step), pos = e % (SIDE / step) * step;
    if (d + c >= s.channels || t + pos >= s.length) continue;
    const Filter f = filter_of(s, d + c);
    float v[OUT_WHOLE ? 8 + BEFORE : WIDTH], y[OUT_WHOLE ? 8 : 1];
#pragma unroll
    for (int i = 0; i < step + BEFORE; i++) v[i] = tile[c * PITCH(COUNT) + PADDED(pos + i)];
#pragma unroll
    for (int i = 0; i < step; i++) {
      y[i] = filtered(f, v + i);
      if (SILU) y[i] *= sigmoid(y[i]);
    }
    TX* at = out + (i64)c * s.length + pos;
#if OUT_WHOLE
    Pack<TX, 8> made;
    set(made, y);
    store(at, made);
#else
    write(at, y[0]);
#endif
  }
}
