// A decoding step of the causal convolution: a thread has a channel of a sequence, whose state moves on in place.
//
// Macros: TX, TS, TW, TB: the dtypes of x and y, state, weight and bias; WIDTH of the filter; KEPT, the positions of a
// state; SILU. WHOLE: there is one new position, and a state is loaded at once.

// Mirrored in cuda.py. Strides in elements.
struct Matrix { const void* at; i64 b, d, l; };
struct ConvStep {
  Matrix x, state;
  const void *weight, *bias, *slots;                               // d w | d, or null | b: where a sequence's state is, or null
  i64 weight_d, weight_w, bias_d, slot_step;
  void* y;                                                         // b d l, in one piece
  int wide, batch, channels, length, cache;
};

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, 1) conv_step(const ConvStep s) {
  const u32 flat = blockIdx.x * THREADS + threadIdx.x;
  if (flat >= (u32)(s.batch * s.channels)) return;
  const int b = flat / s.channels, d = flat - b * s.channels;
  i64 slot = b;
  if (s.slots) {
    slot = s.wide ? ((const i64*)s.slots)[b * s.slot_step] : ((const int*)s.slots)[b * s.slot_step];
    if (slot < 0 || slot >= s.cache) stop();
  }
  TS* state = (TS*)s.state.at + slot * s.state.b + d * s.state.d;
  const TX* x = (const TX*)s.x.at + b * s.x.b + d * s.x.d;
  float w[WIDTH], v[WIDTH];
  const float bias = s.bias ? read((const TB*)s.bias + d * s.bias_d) : 0.f;
#pragma unroll
  for (int k = 0; k < WIDTH; k++) w[k] = read((const TW*)s.weight + d * s.weight_d + k * s.weight_w);
#if WHOLE
  Pack<TS, KEPT> held;
  load_own(held, state);
  float moved[KEPT];
#pragma unroll
  for (int j = 0; j < KEPT - 1; j++) moved[j] = get(held, j + 1);
  moved[KEPT - 1] = read(x);
#pragma unroll
  for (int k = 0; k < WIDTH - 1; k++) v[k + 1] = rounded<TX>(get(held, KEPT - WIDTH + 1 + k));
  Pack<TS, KEPT> made;
  set(made, moved);
  store(state, made);
#else
#pragma unroll
  for (int k = 0; k < WIDTH - 1; k++) v[k + 1] = rounded<TX>(value(state[(KEPT - WIDTH + 1 + k) * s.state.l]));
  for (int j = 0; j < KEPT; j++) {
    const int from = j + s.length;
    if (from < KEPT)
      state[j * s.state.l] = state[from * s.state.l];
    else
      write(state + j * s.state.l, read(x + (from - KEPT) * s.x.l));
  }
#endif
  for (int i = 0; i < (WHOLE ? 1 : s.length); i++) {
#pragma unroll
    for (int k = 0; k < WIDTH - 1; k++) v[k] = v[k + 1];
    v[WIDTH - 1] = read(x + i * s.x.l);
    float y = w[0] * v[0] + bias;
#pragma unroll
    for (int k = 1; k < WIDTH; k++) y += w[k] * v[k];
    if (SILU) y *= sigmoid(y);
    write((TX*)s.y + (i64)flat * s.length + i, y);
  }
}
