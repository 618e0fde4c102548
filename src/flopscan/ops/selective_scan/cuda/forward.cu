// Forward, two states and more. Needs: LANES, STATES, TILE, CHUNK (positions between kept states, whole tiles), HAS_Z,
// POLYNOMIAL (of 16 exponentials, how many leave the special-function unit), UNROLL (in runs of 8 positions), RESIDENT
// (blocks on a multiprocessor).

#define STEPS (LANES < 4 ? 4 : LANES < 8 ? LANES : 8)      // positions that are summed together
#define GROUP (LANES < STEPS ? LANES : STEPS)              // numbers that one sum scatters

struct Staged { float delta, input; };                     // of one position: delta, and delta u
// y of STEPS positions is written over the first half of their inputs: then writes and reads of it meet no conflicts
#define OUTPUT(t) (2 * SLOT((t) / STEPS * STEPS) + (t) % STEPS)
#define OUTPUTS (EACH < 4 ? EACH : 4)                      // that are read at once

template <int COUNT> DEVICE void decays(float (&e)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) e[i] = i % 16 < POLYNOMIAL ? exp2_polynomial(e[i]) : exp2_hw(e[i]);
}

// STEPS positions: the state moves on, and y lies where the inputs did.
DEVICE void advance(float (&h)[STATES], const float (&a)[STATES], Staged* inputs, const float* B, const float* C, int q) {
  Staged in[STEPS];
  float y[STEPS];
#pragma unroll
  for (int i = 0; i < STEPS / 2; i++) {
    words4 w = ((const words4*)inputs)[i];
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
    read(b, B + i * PADDED + q * STATES);
    read(c, C + i * PADDED + q * STATES);
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
    if (q < GROUP) ((float*)inputs)[k * GROUP + q] = sum;
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

  TO* out_row = (TO*)s.out + ((i64)p.batch * s.channels + p.load_channel) * s.length;
  float skip[PASSES], bias[PASSES];
#pragma unroll
  for (int k = 0; k < PASSES; k++) { skip[k] = of_channel(s.D, p, k); bias[k] = of_channel(s.bias, p, k); }

  Pack<TU, EACH> u[PASSES];
  Pack<TD, EACH> delta[PASSES];
  Pack<TB, SPREAD> B[PIECES];
  Pack<TC, SPREAD> C[PIECES];
#if HAS_Z
  Pack<TZ, EACH> z[PASSES];
#endif
  auto load_tile = [&](int t0) {
#pragma unroll
    for (int k = 0; k < PASSES; k++) {
      load(u[k], row<TU>(s.u, p, k), s.u.l, t0 + p.column, load_end(p, k), (int)s.u.align);
      load(delta[k], row<TD>(s.delta, p, k), s.delta.l, t0 + p.column, load_end(p, k), (int)s.delta.align);
#if HAS_Z
      load(z[k], row<TZ>(s.z, p, k), s.z.l, t0 + p.column, load_end(p, k), (int)s.z.align);
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
    float* B_tile = states + turn * 2 * MATRIX;
    float* C_tile = B_tile + MATRIX;
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
      Staged* into = inputs + load_slot(p, k);
      int t = t0 + p.column, end = load_end(p, k);
#pragma unroll
      for (int i = 0; i < EACH; i += 2) {
        float d[2], x[2];
#pragma unroll
        for (int m = 0; m < 2; m++) {
          d[m] = get(delta[k], i + m) + bias[k];
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
    for (int t = 0; t < TILE; t += SPREAD) {
#pragma unroll
      for (int i = 0; i < SPREAD; i += STEPS)
        advance(h, a, inputs + p.c * PITCH + SLOT(t) + i, B_tile + LINE(t) + i * PADDED, C_tile + LINE(t) + i * PADDED, p.q);
    }
    sync_warp();

#pragma unroll
    for (int k = 0; k < PASSES; k++) {
      const float* from = (const float*)(inputs + (p.load_row + k * PASS_ROWS) * PITCH);
      float out[EACH];
#pragma unroll
      for (int i = 0; i < EACH; i += OUTPUTS) {
        float y[OUTPUTS];
        read(y, from + OUTPUT(p.column + i));
#pragma unroll
        for (int m = 0; m < OUTPUTS; m++) out[i + m] = y[m];
      }
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        out[i] += skip[k] * get(u_now[k], i);
#if HAS_Z
        float gate = get(z_now[k], i);
        out[i] *= gate * sigmoid(gate);
#endif
      }
      store(out_row + (i64)(k * PASS_ROWS) * s.length, t0 + p.column, load_end(p, k), s.out_align, out);
    }
    sync_warp();   // y is read before the next tile lies over it
  }
  if (s.last && p.end == s.length) write_row(s.last + state_row, h, p, s.states);
}
