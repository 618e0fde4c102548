// The gradient of the causal convolution. SiLU's is of the output before it, which is computed again, also of the w - 1
// positions after a thread's own, as these take part in its gradient of x. The sums for weight and bias go to one part
// for each segment of a row, which conv_sums adds up: always in the same order.
//
// Macros besides: TG, the dtype of the gradient of y; X_ALONG and G_ALONG (how x and the gradient of y are read into tiles), OUT_WHOLE.

// g: of y at SPAN + w - 1 positions, in: of the output, out: before SiLU. x: w - 1 positions more before them.
DEVICE void through_silu(float* g, const float* x, const Filter& f) {
  if (!SILU) return;
#pragma unroll
  for (int i = 0; i < SPAN + BEFORE; i++) {
    const float y = filtered(f, x + i), sig = sigmoid(y);
    g[i] *= sig * (1.f + y * (1.f - sig));
  }
}
DEVICE void to_x(float (&dx)[SPAN], const float* g, const Filter& f) {
#pragma unroll
  for (int i = 0; i < SPAN; i++) {
    dx[i] = 0.f;
#pragma unroll
    for (int k = 0; k < WIDTH; k++) dx[i] += f.w[k] * g[i + BEFORE - k];
  }
}
DEVICE void to_filter(Filter& sum, const float* g, const float* x) {
#pragma unroll
  for (int i = 0; i < SPAN; i++) {
    sum.bias += g[i];
#pragma unroll
    for (int k = 0; k < WIDTH; k++) sum.w[k] += g[i] * x[i + k];
  }
}
// of what is before the start; g from the start on
DEVICE void to_initial(const Conv& s, int b, int d, const float* g, const Filter& f) {
  if (!s.grad_initial) return;
#pragma unroll
  for (int j = 0; j < BEFORE; j++) {
    float v = 0.f;
#pragma unroll
    for (int k = 0; k <= j; k++) v += f.w[k] * g[j - k];
    write((TI*)s.grad_initial + ((i64)b * s.channels + d) * BEFORE + j, v);
  }
}
// the sum of `lanes` neighbouring threads, written by the first
template <int N> DEVICE void to_part(const Conv& s, int b, int d, int segment, bool there, Filter& sum) {
  float* part = s.parts + (((i64)b * s.segments + segment) * s.channels + d) * (WIDTH + 1);
#pragma unroll
  for (int k = 0; k <= WIDTH; k++) {
    float v = k < WIDTH ? sum.w[k < WIDTH ? k : 0] : sum.bias;
#pragma unroll
    for (int mask = N / 2; mask; mask /= 2) v += shuffle_xor(v, mask);
    if (there && threadIdx.x % N == 0) part[k] = v;
  }
}
DEVICE void clear(Filter& f) {
#pragma unroll
  for (int k = 0; k < WIDTH; k++) f.w[k] = 0.f;
  f.bias = 0.f;
}

// Rows that are aligned, of a length that is a multiple of SPAN: LANES lanes have a segment of one.
extern "C" __global__ void LAUNCH_BOUNDS(THREADS, WIDTH <= 5 ? 768 / THREADS : 1) conv_rows_backward(const Conv s) {
  const Place p = place_of(s);
  const TX* x = (const TX*)s.x.at + p.b * s.x.b + p.d * s.x.d;
  const TG* grad = (const TG*)s.grad.at + p.b * s.grad.b + p.d * s.grad.d;
  TX* out = (TX*)s.out + (i64)p.row * s.length;
  const Filter f = filter_of(s, p.d);
  Filter sum;
  clear(sum);
  for (int t = p.begin; t < p.end; t += LANES * SPAN) {
    float v[SPAN + 2 * BEFORE], g[SPAN + BEFORE], dx[SPAN];
    const bool more = t + SPAN < s.length;
    own(v + BEFORE, x + t);
    own(g, grad + t);
    row(v, HALO - BEFORE, BEFORE, x + t - HALO, t > 0);
    row(v + BEFORE + SPAN, 0, BEFORE, x + t + SPAN, more);
    row(g + SPAN, 0, BEFORE, grad + t + SPAN, more);
    if (t == 0) {
#pragma unroll
      for (int i = 0; i < BEFORE; i++) v[i] = before(s, p.b, p.d, i - BEFORE);
    }
    through_silu(g, v, f);
    if (!more) {                                                   // nothing follows, whatever the filter is
#pragma unroll
      for (int i = SPAN; i < SPAN + BEFORE; i++) g[i] = 0.f;
    }
    to_x(dx, g, f);
    to_filter(sum, g, v);
    if (t == 0) to_initial(s, p.b, p.d, g, f);
    Pack<TX, SPAN> made;
    set(made, dx);
    store(out + t, made);
  }
  to_part<LANES>(s, p.b, p.d, p.segment, p.there, sum);
}

// Any strides, SPAN 8: a block goes over the tiles of a segment of SIDE channels, eight threads to a channel.
extern "C" __global__ void LAUNCH_BOUNDS(THREADS, (WIDTH > 4 ? 256 : X_ALONG == 2 ? 768 : 512) / THREADS) conv_tiles_backward(const Conv s) {
  SHARED_MEMORY(memory);
  const int XS = SIDE + 2 * BEFORE, GS = SIDE + BEFORE, across = (s.channels + SIDE - 1) / SIDE, TURNS = SIDE * 8 / THREADS;
  float *xs = (float*)memory, *gs = xs + SIDE * PITCH(XS);
  const int b = blockIdx.y, d = blockIdx.x % across * SIDE, segment = blockIdx.x / across;
  const int begin = segment * s.segment, end = begin + s.segment < s.length ? begin + s.segment : s.length;
  const int pos = threadIdx.x % 8 * SPAN;
  Filter sum[TURNS];
#pragma unroll
  for (int turn = 0; turn < TURNS; turn++) clear(sum[turn]);
  for (int t = begin; t < end; t += SIDE) {
    fill<TX, X_ALONG, XS, BEFORE>(xs, s.x, b, d, t - BEFORE, s.channels, s.length);
    fill<TG, G_ALONG, GS, 0>(gs, s.grad, b, d, t, s.channels, s.length);
    sync_block();
    if (t == 0) {
      fill_before<XS>(xs, s, b, d);
      sync_block();
    }
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
      const int c = threadIdx.x / 8 + turn * (THREADS / 8);
      if (d + c >= s.channels || t + pos >= s.length) continue;
      const Filter f = filter_of(s, d + c);
      float v[SPAN + 2 * BEFORE], g[SPAN + BEFORE], dx[SPAN];
#pragma unroll
      for (int i = 0; i < SPAN + 2 * BEFORE; i++) v[i] = xs[c * PITCH(XS) + PADDED(pos + i)];
#pragma unroll
      for (int i = 0; i < SPAN + BEFORE; i++) g[i] = gs[c * PITCH(GS) + PADDED(pos + i)];
      through_silu(g, v, f);
#pragma unroll
      for (int i = 0; i < SPAN + BEFORE; i++)
        if (t + pos + i >= s.length) g[i] = 0.f;                   // nothing follows, whatever the filter is
      to_x(dx, g, f);
      to_filter(sum[turn], g, v);
      if (t + pos == 0) to_initial(s, b, d + c, g, f);
      TX* out = (TX*)s.out + ((i64)b * s.channels + d + c) * s.length + t + pos;
      if (OUT_WHOLE) {
        Pack<TX, SPAN> made;
        set(made, dx);
        store(out, made);
      } else {
#pragma unroll
        for (int i = 0; i < SPAN; i++)
          if (t + pos + i < s.length) write(out + i, dx[i]);
      }
    }
    sync_block();
  }
#pragma unroll
  for (int turn = 0; turn < TURNS; turn++) {
    const int c = threadIdx.x / 8 + turn * (THREADS / 8);
    to_part<8>(s, b, d + c, segment, d + c < s.channels, sum[turn]);
  }
}

// The gradients of weight and bias: a block has 32 of them, a warp every eighth part.
extern "C" __global__ void LAUNCH_BOUNDS(THREADS, 1) conv_sums(const Conv s) {
  SHARED_MEMORY(memory);
  float* shared = (float*)memory;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = THREADS / 32;
  const int of = s.channels * (WIDTH + 1), i = blockIdx.x * 32 + lane, parts = s.batch * s.segments;
  float v = 0.f;
  if (i < of) {
#pragma unroll 8
    for (int p = warp; p < parts; p += warps) v += s.parts[(i64)p * of + i];
  }
  shared[threadIdx.x] = v;
  sync_block();
  if (warp || i >= of) return;
  for (int w = 1; w < warps; w++) v += shared[w * 32 + lane];
  const int d = i / (WIDTH + 1), k = i % (WIDTH + 1);
  if (k < WIDTH) write((TW*)s.grad_weight + (i64)d * WIDTH + k, v);
  else if (s.grad_bias) write((TB*)s.grad_bias + d, v);
}
