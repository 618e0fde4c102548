// Forward, two states and more. Needs: LANES, STATES, TILE, CHUNK (positions between kept states, whole tiles), HAS_Z,
// POLYNOMIAL (of 16 exponentials, how many leave the special-function unit), UNROLL, RESIDENT (blocks on a multiprocessor).

#define STEPS (LANES < 4 ? 4 : LANES < 8 ? LANES : 8)      // positions that are summed together
#define GROUP (LANES < STEPS ? LANES : STEPS)              // numbers that one sum scatters
#define PITCH (TILE + 2)                                   // float2 from one row of `inputs` to the next

struct Staged { float delta, input; };                     // of one position: delta, and delta u, over which y is written

template <int COUNT> DEVICE void decays(float (&e)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) e[i] = i % 16 < POLYNOMIAL ? exp2_polynomial(e[i]) : exp2_hw(e[i]);
}

// STEPS positions: the state moves on, and y lies where the inputs did.
DEVICE void advance(float (&h)[STATES], const float (&a)[STATES], Staged* inputs, const float* B, const float* C, int t, int q) {
  Staged in[STEPS];
  float y[STEPS];
#pragma unroll
  for (int i = 0; i < STEPS / 2; i++) {
    words4 w = ((const words4*)(inputs + t))[i];
    in[2 * i] = Staged{as_float(w.x), as_float(w.y)};
    in[2 * i + 1] = Staged{as_float(w.z), as_float(w.w)};
  }
  float e[STEPS * STATES];
#pragma unroll
  for (int i = 0; i < STEPS; i++)
#pragma unroll
    for (int j = 0; j < STATES; j++) e[i * STATES + j] = in[i].delta * a[j];
  decays(e);
#pragma unroll
  for (int i = 0; i < STEPS; i++) {
    float b[STATES], c[STATES];
    read_states(b, B + (t + i) * PADDED + q * STATES);
    read_states(c, C + (t + i) * PADDED + q * STATES);
    y[i] = 0.f;
#pragma unroll
    for (int j = 0; j < STATES; j++) {
      h[j] = e[i * STATES + j] * h[j] + in[i].input * b[j];
      y[i] = h[j] * c[j] + y[i];
    }
  }
#pragma unroll
  for (int k = 0; k < STEPS / GROUP; k++) {
    float part[GROUP];
#pragma unroll
    for (int i = 0; i < GROUP; i++) part[i] = y[k * GROUP + i];
    float sum = sum_over_states(part, q);
    sync_warp();
    if (q < GROUP) inputs[t + k * GROUP + q].delta = sum;
  }
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, RESIDENT) scan_forward(const Scan s) {
  SHARED_MEMORY(memory);
  Place p = place(s);
  Staged* inputs = (Staged*)memory + p.warp * CHANNELS * PITCH;
  float* states = (float*)((Staged*)memory + BLOCK_CHANNELS * PITCH);   // B and C, twice: the tile in use and the next

  float a[STATES], h[STATES];
  read_row(a, s.A + (i64)(p.valid ? p.channel : 0) * s.states, p, s.states);
#pragma unroll
  for (int j = 0; j < STATES; j++) { a[j] *= LOG2E; h[j] = 0.f; }
  i64 state_row = ((i64)p.batch * s.channels + (p.valid ? p.channel : 0)) * s.states;
  if (s.initial) read_row(h, s.initial + state_row, p, s.states);
  fold_edges(h, a, s, p, 0, 1, p.segment);

  const TU* u_row = row<TU>(s.u, p.batch, p.load_channel, p.load_valid);
  const TD* delta_row = row<TD>(s.delta, p.batch, p.load_channel, p.load_valid);
  TO* out_row = (TO*)s.out + ((i64)p.batch * s.channels + p.load_channel) * s.length;
  float skip = s.D && p.load_valid ? s.D[p.load_channel] : 0.f, bias = s.bias && p.load_valid ? s.bias[p.load_channel] : 0.f;
  int end = p.load_valid ? p.end : 0;   // where this lane's loads stop

  Pack<TU, EACH> u[PASSES];
  Pack<TD, EACH> delta[PASSES];
  Pack<TB, SPREAD> B[PIECES];
  Pack<TC, SPREAD> C[PIECES];
#if HAS_Z
  const TZ* z_row = row<TZ>(s.z, p.batch, p.load_channel, p.load_valid);
  Pack<TZ, EACH> z[PASSES];
#endif
  auto load_tile = [&](int t0) {
#pragma unroll
    for (int k = 0; k < PASSES; k++) {
      load(u[k], u_row, s.u.l, t0 + column(p, k), end, (int)s.u.align);
      load(delta[k], delta_row, s.delta.l, t0 + column(p, k), end, (int)s.delta.align);
#if HAS_Z
      load(z[k], z_row, s.z.l, t0 + column(p, k), end, (int)s.z.align);
#endif
    }
    if (PIECES <= 2) {
      load_states(B, s.B, p, t0, s.states, p.end);
      load_states(C, s.C, p, t0, s.states, p.end);
    }
  };

  load_tile(p.begin);
  int chunks = (s.length + CHUNK - 1) / CHUNK;
  for (int t0 = p.begin, turn = 0; t0 < p.end; t0 += TILE, turn ^= 1) {
    if (s.saved && t0 % CHUNK == 0)
      write_row(s.saved + (((i64)p.batch * chunks + t0 / CHUNK) * s.channels + (p.valid ? p.channel : 0)) * s.states, h, p, s.states);
    float* B_tile = states + turn * 2 * TILE * PADDED;
    float* C_tile = B_tile + TILE * PADDED;
    if (PIECES > 2) {
      load_states(B, s.B, p, t0, s.states, p.end);
      store_states(B_tile, B);
      load_states(C, s.C, p, t0, s.states, p.end);
      store_states(C_tile, C);
    } else {
      store_states(B_tile, B);
      store_states(C_tile, C);
    }
    Pack<TU, EACH> u_now[PASSES];
#if HAS_Z
    Pack<TZ, EACH> z_now[PASSES];
#endif
#pragma unroll
    for (int k = 0; k < PASSES; k++) {
      Staged* into = inputs + p.load_row * PITCH + column(p, k);
      int t = t0 + column(p, k);
#pragma unroll
      for (int i = 0; i < EACH; i += 2) {
        float d[2], x[2];
#pragma unroll
        for (int m = 0; m < 2; m++) {
          d[m] = get(delta[k], i + m) + bias;
          if (s.softplus) d[m] = softplus(d[m], exp_minus_abs(d[m]));
          x[m] = d[m] * get(u[k], i + m);
        }
        *(words4*)(into + i) = words4{as_bits(d[0]), as_bits(x[0]), as_bits(d[1]), as_bits(x[1])};
      }
      if (t + EACH > end) {   // beyond the end the state stays
#pragma unroll
        for (int i = 0; i < EACH; i++)
          if (t + i >= end) into[i] = Staged{0.f, 0.f};
      }
      u_now[k] = u[k];
#if HAS_Z
      z_now[k] = z[k];
#endif
    }
    sync_block();
    if (t0 + TILE < p.end) load_tile(t0 + TILE);

    const int unroll = UNROLL;
#pragma unroll unroll
    for (int t = 0; t < TILE; t += STEPS) advance(h, a, inputs + p.c * PITCH, B_tile, C_tile, t, p.q);
    sync_warp();

#pragma unroll
    for (int k = 0; k < PASSES; k++) {
      const Staged* from = inputs + p.load_row * PITCH + column(p, k);
      float out[EACH];
#pragma unroll
      for (int i = 0; i < EACH; i += 2) {
        words4 w = *(const words4*)(from + i);
        out[i] = as_float(w.x);
        out[i + 1] = as_float(w.z);
      }
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        out[i] += skip * get(u_now[k], i);
#if HAS_Z
        float gate = get(z_now[k], i);
        out[i] *= gate * sigmoid(gate);
#endif
      }
      store(out_row, t0 + column(p, k), end, s.out_align, out);
    }
    sync_warp();   // y is read before the next tile lies over it
  }
  if (s.last && p.end == s.length) write_row(s.last + state_row, h, p, s.states);
}
