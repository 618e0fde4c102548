// Forward, two states and more. Needs: LANES, STATES, TILE, HAS_Z, SOFTPLUS, WHOLE (every row starts at a multiple of 16
// bytes, in steps of 1, and is a multiple of 8 long), UNROLL (in runs of 8 positions), RESIDENT (blocks on a multiprocessor).
//
// A row of shared memory is a channel of a tile: delta and delta u of 8 positions, then in the same place what each of
// SUMS lanes adds to y of these. The sum is made where y leaves: shuffles in the loop would cost three times as much.

#define SUMS (LANES < 4 ? LANES : 4)                       // parts of y that lie in shared memory
#define SUMMED (SPREAD * SUMS / LANES)                     // positions of 8 whose part a lane writes
// Words4 of a row: part k of the positions [4 g, 4 g + 4) is at AT(k, g). Where the parts begin and rows differ keeps
// every access of a quarter of a warp in different banks.
#define GROUPS (TILE / 4)
#define USED (GROUPS + (GROUPS - 1) / 8)
#define PART (USED + (8 / SUMS + 64 - USED) % 8)
#define ROW (SUMS * PART + 1)
#define AT(k, g) ((k) * PART + (g) + (g) / 8)
// Of 8 positions that begin at t: two of them, counted by i
#define PAIR(t, i) AT((i) * SUMS / 4, (t) / 4 + (i) % (4 / SUMS))

#define RELOAD (sizeof(TU) < 4)                            // whether u is loaded again where y leaves, rather than copied
#define AT_ONCE (EACH < 4 ? EACH : 4)                      // positions whose y is read at once

static_assert(LANES >= 2, "of one lane, 8 positions do not lie in the place of their inputs");

struct Staged { float delta, input; };                     // of one position: delta, and delta u

// What runs ahead of the state: delta and delta u of 8 positions, decays, B and C of one. So the special-function unit and
// the reads have a position's time before anything waits for them.
struct Ahead { Staged in[SPREAD]; float decay[STATES], b[STATES], c[STATES]; };
DEVICE void decays(float (&e)[STATES], const float (&a)[STATES], float delta) {
#pragma unroll
  for (int j = 0; j < STATES; j++) e[j] = exp2_hw(delta * a[j]);
}
DEVICE void read_pair(Ahead& ahead, const words4* at, int i) {
  words4 w = at[PAIR(0, i)];
  ahead.in[2 * i] = Staged{as_float(w.x), as_float(w.y)};
  ahead.in[2 * i + 1] = Staged{as_float(w.z), as_float(w.w)};
}
DEVICE void begin(Ahead& ahead, const float (&a)[STATES], const words4* at, const float* B, const float* C) {
#pragma unroll
  for (int i = 0; i < SPREAD / 2; i++) read_pair(ahead, at, i);
  decays(ahead.decay, a, ahead.in[0].delta);
  read(ahead.b, B);
  read(ahead.c, C);
}

// 8 positions: the state moves on, and the parts of y lie where the inputs did. MORE: the next 8 are at `then`.
template <bool MORE> DEVICE void advance(float (&h)[STATES], const float (&a)[STATES], Ahead& ahead, words4* at, const words4* then,
                                         const float* B, const float* C, int q) {
  float y[SPREAD];
  sync_warp();   // all lanes of the channel have read what y will lie over
#pragma unroll
  for (int i = 0; i < SPREAD; i++) {
    float e[STATES], b[STATES], c[STATES];
#pragma unroll
    for (int j = 0; j < STATES; j++) { b[j] = ahead.b[j]; c[j] = ahead.c[j]; }
    if (MORE || i + 1 < SPREAD) {
      const int line = i + 1 < SPREAD ? (i + 1) * PADDED : LINE(SPREAD);
      read(ahead.b, B + line);
      read(ahead.c, C + line);
      decays(e, a, ahead.in[(i + 1) % SPREAD].delta);
    }
    y[i] = 0.f;
#pragma unroll
    for (int j = 0; j < STATES; j++) {
      h[j] = ahead.decay[j] * h[j] + ahead.in[i].input * b[j];
      y[i] = h[j] * c[j] + y[i];
      ahead.decay[j] = e[j];
    }
    if (MORE && i % 2) read_pair(ahead, then, i / 2);
  }
  int first = 0;
#pragma unroll
  for (int half = SPREAD / 2; half >= SUMMED; half /= 2) {
    int lane = half * LANES / SPREAD;
    bool upper = q & lane;
#pragma unroll
    for (int i = 0; i < half; i++) {
      float keep = upper ? y[i + half] : y[i], send = upper ? y[i] : y[i + half];
      y[i] = keep + shuffle_xor(send, state_mask(lane));
    }
    first += upper ? half : 0;
  }
  words4* into = at + AT(q % SUMS, 0) + first / 4;
  if (SUMMED >= 4) {
#pragma unroll
    for (int i = 0; i < SUMMED / 4; i++)
      into[i] = words4{as_bits(y[4 * i]), as_bits(y[4 * i + 1]), as_bits(y[4 * i + 2]), as_bits(y[4 * i + 3])};
  } else {
#pragma unroll
    for (int i = 0; i < SUMMED; i++) ((float*)into)[first % 4 + i] = y[i];
  }
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, RESIDENT) scan_forward(const Scan s) {
  SHARED_MEMORY(memory);
  Place p = place(s);
  words4* rows = memory + p.warp * CHANNELS * ROW;
  float* states = (float*)(memory + BLOCK_CHANNELS * ROW);   // B and C, twice: the tile in use and the next

  float a[STATES], h[STATES];
  read_row(a, s.A + (i64)(p.valid ? p.channel : 0) * s.states, p, s.states);
#pragma unroll
  for (int j = 0; j < STATES; j++) { a[j] *= LOG2E; h[j] = 0.f; }
  i64 state_row = ((i64)p.batch * s.channels + (p.valid ? p.channel : 0)) * s.states;
  if (s.initial) read_row(h, s.initial + state_row, p, s.states);
  fold_edges(h, a, s, p, 0, 1, p.segment);

  TO* out_at = (TO*)s.out + ((i64)p.batch * s.channels + p.load_channel) * s.length + (WHOLE ? p.begin + p.column : 0);
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
  Walk<TU> u_walk;
  Walk<TD> delta_walk;
  start(u_walk, s.u, p);
  start(delta_walk, s.delta, p);
#if HAS_Z
  Walk<TZ> z_walk;
  start(z_walk, s.z, p);
#endif
  const TB* B_at = states_at<TB>(s.B, p, s.states) + WHOLE * p.begin;
  const TC* C_at = states_at<TC>(s.C, p, s.states) + WHOLE * p.begin;
  auto load_tile = [&](int t0) {
#pragma unroll
    for (int k = 0; k < PASSES; k++) {
      load_pass<0>(u[k], u_walk, s.u, p, k, t0);
      load_pass<0>(delta[k], delta_walk, s.delta, p, k, t0);
    }
    step(u_walk); step(delta_walk);
    if (PIECES <= 2) {
      load_states(B, B_at, s.B, p, t0, s.states, WHOLE * t0);
      load_states(C, C_at, s.C, p, t0, s.states, WHOLE * t0);
      B_at = opaque(B_at + WHOLE * TILE); C_at = opaque(C_at + WHOLE * TILE);
    }
  };

  load_tile(p.begin);
  int chunks = (s.length + s.chunk - 1) / s.chunk, chunk = (p.begin + s.chunk - 1) / s.chunk;   // the next one that begins
  int keep = s.saved ? chunk * s.chunk : -1;
  words4* own = rows + p.load_row * ROW + AT(0, p.column / 4);   // of the loads: EACH positions
  for (int t0 = p.begin, turn = 0; t0 < p.end; t0 += TILE, turn ^= 1) {
    if (t0 == keep) {
      write_row(s.saved + (((i64)p.batch * chunks + chunk++) * s.channels + (p.valid ? p.channel : 0)) * s.states, h, p, s.states);
      keep += s.chunk;
    }
    float* B_tile = states + turn * 2 * MATRIX;
    float* C_tile = B_tile + MATRIX;
    if (PIECES > 2) {
      load_states(B, B_at, s.B, p, t0, s.states, WHOLE * p.begin);
      store_states(B_tile, B);
      load_states(C, C_at, s.C, p, t0, s.states, WHOLE * p.begin);
      store_states(C_tile, C);
    } else {
      store_states(B_tile, B);
      store_states(C_tile, C);
    }
    Pack<TU, EACH> u_now[PASSES];
#pragma unroll
    for (int k = 0; k < PASSES; k++) {
      words4* into = own + k * PASS_ROWS * ROW + (EACH < SPREAD ? PAIR(0, p.column % SPREAD / 2) - AT(0, p.column % SPREAD / 4) : 0);
      float d[EACH], x[EACH];
      int left = load_end(p, k) - (t0 + p.column);
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        d[i] = get(delta[k], i) + bias[k];
#if SOFTPLUS
        d[i] = softplus(d[i], exp_minus_abs(d[i]));
#endif
        x[i] = d[i] * get(u[k], i);
      }
      if (left < EACH) {   // beyond the end the state stays
#pragma unroll
        for (int i = 0; i < EACH; i++)
          if (i >= left) d[i] = x[i] = 0.f;
      }
#pragma unroll
      for (int i = 0; i < EACH; i += 2)
        into[PAIR(0, i / 2)] = words4{as_bits(d[i]), as_bits(x[i]), as_bits(d[i + 1]), as_bits(x[i + 1])};
      if (!RELOAD) u_now[k] = u[k];
    }
    sync_block();
#pragma unroll
    for (int k = 0; RELOAD && k < PASSES; k++) load_pass<1>(u_now[k], u_walk, s.u, p, k, t0);
    if (t0 + TILE < p.end) load_tile(t0 + TILE);
#if HAS_Z
#pragma unroll
    for (int k = 0; k < PASSES; k++) load_pass<0>(z[k], z_walk, s.z, p, k, t0);
    step(z_walk);
#endif

    words4* at = rows + p.c * ROW;
    const float* B_now = B_tile + p.q * STATES;
    const int unroll = UNROLL;
    Ahead ahead;
    begin(ahead, a, at, B_now, B_now + MATRIX);
#pragma unroll unroll
    for (int t = SPREAD; t < TILE; t += SPREAD) {
      words4* then = rows + p.c * ROW + AT(0, t / 4);
      advance<true>(h, a, ahead, at, then, B_now, B_now + MATRIX, p.q);
      at = then; B_now += LINE(SPREAD);
    }
    advance<false>(h, a, ahead, at, at, B_now, B_now + MATRIX, p.q);
    sync_warp();

#pragma unroll
    for (int k = 0; k < PASSES; k++) {
      const float* from = (const float*)(own + k * PASS_ROWS * ROW) + p.column % 4;
      float out[EACH];
#pragma unroll
      for (int i = 0; i < EACH; i += AT_ONCE)
#pragma unroll
        for (int part = 0; part < SUMS; part++) {
          float y[AT_ONCE];
          read(y, from + 4 * AT(part, i / 4));
#pragma unroll
          for (int m = 0; m < AT_ONCE; m++) out[i + m] = part ? out[i + m] + y[m] : skip[k] * get(u_now[k], i + m) + y[m];
        }
#if HAS_Z
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        float gate = get(z[k], i);
        out[i] *= gate * sigmoid(gate);
      }
#endif
#if WHOLE
      if (t0 + p.column < load_end(p, k)) store_values(out_at + (i64)(k * PASS_ROWS) * s.length, out);
#else
      store(out_at + (i64)(k * PASS_ROWS) * s.length, t0 + p.column, load_end(p, k), s.out_align, out);
#endif
    }
    if (WHOLE) out_at = opaque(out_at + TILE);
    sync_warp();   // y is read before the next tile lies over it
  }
  if (s.last && p.end == s.length) write_row(s.last + state_row, h, p, s.states);
}
