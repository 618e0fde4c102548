// What crosses the edge of a segment, for segments that run at the same time. FORWARD: the state after the segment, had
// it begun with zero, walked from its end, each position weighed with the decay of all that follow it. Otherwise the
// gradient that the segment hands to the position before it, walked from its begin. A walk ends where all that is left
// has decayed. Needs: LANES, STATES, TILE, FORWARD (else HAS_Z).

struct Staged { float delta, weight; };     // delta, and delta u or the gradient of y

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, 1) scan_edges(const Scan s) {
  SHARED_MEMORY(memory);
  Place p = place(s);
#if !FORWARD
  p.segment++; p.begin += s.segment;        // of the first nothing is asked
  p.end = p.begin + s.segment < s.length ? p.begin + s.segment : s.length;
#endif
  Staged* staged = (Staged*)memory + p.warp * CHANNELS * PITCH;
  float* matrix = (float*)((Staged*)memory + BLOCK_CHANNELS * PITCH);
  int channel = p.valid ? p.channel : 0;
  float a[STATES], sum[STATES], past = 0.f;  // past: the deltas walked over
  read_row(a, s.A + (i64)channel * s.states, p, s.states);
#pragma unroll
  for (int j = 0; j < STATES; j++) { a[j] *= LOG2E; sum[j] = 0.f; }
  float bias[PASSES];
#pragma unroll
  for (int pass = 0; pass < PASSES; pass++) bias[pass] = of_channel(s.bias, p, pass);

  int tiles = (p.end - p.begin + TILE - 1) / TILE;
  bool decayed = false;
  for (int k = 0; k < tiles && !decayed; k++) {
    int t0 = p.begin + (FORWARD ? tiles - 1 - k : k) * TILE;
    sync_block();
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
      int t = t0 + p.column, end = load_end(p, pass);
      Pack<TD, EACH> delta;
      clear(delta);
      load_pass(delta, loads_at<TD>(s.delta, p), s.delta, p, pass, t0);
#if FORWARD
      Pack<TU, EACH> u;
      clear(u);
      load_pass(u, loads_at<TU>(s.u, p), s.u, p, pass, t0);
#else
      Pack<TO, EACH> grad;
      clear(grad);
      load_pass(grad, loads_at<TO>(s.grad, p), s.grad, p, pass, t0);
#if HAS_Z
      Pack<TZ, EACH> z;
      clear(z);
      load_pass(z, loads_at<TZ>(s.z, p), s.z, p, pass, t0);
#endif
#endif
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        float d = get(delta, i) + bias[pass];
        if (SOFTPLUS) d = softplus(d, exp_minus_abs(d));
        if (t + i >= end) d = 0.f;
#if FORWARD
        float weight = d * get(u, i);
#else
        float weight = get(grad, i);
#if HAS_Z
        weight *= get(z, i) * sigmoid(get(z, i));
#endif
#endif
        staged[load_slot(p, pass) + i] = Staged{d, weight};
      }
    }
#if FORWARD
    Pack<TB, SPREAD> pieces[PIECES];
    load_states(pieces, states_at<TB>(s.B, p, s.states), s.B, p, t0, s.states);
#else
    Pack<TC, SPREAD> pieces[PIECES];
    load_states(pieces, states_at<TC>(s.C, p, s.states), s.C, p, t0, s.states);
#endif
    store_states(matrix, pieces);
    sync_block();
#pragma unroll 4
    for (int i = 0; i < TILE; i++) {
      int t = FORWARD ? TILE - 1 - i : i;
      Staged in = staged[p.c * PITCH + SLOT(t)];
      float m[STATES];
      read(m, matrix + LINE(t) + p.q * STATES);
      if (!FORWARD) past += in.delta;
#pragma unroll
      for (int j = 0; j < STATES; j++) sum[j] = exp2_hw(past * a[j]) * (in.weight * m[j]) + sum[j];
      if (FORWARD) past += in.delta;
    }
    bool mine = true;
#pragma unroll
    for (int j = 0; j < STATES; j++) mine = mine && (p.q * STATES + j >= s.states || past * a[j] < -DECAYED);
    decayed = all_of_block(mine || !p.valid);
  }
  i64 at = ((i64)p.segment * s.batch + p.batch) * s.channels + channel;
  write_row(s.edge + at * s.states, sum, p, s.states);
  if (p.valid && p.q == 0) s.edge_sum[at] = decayed ? 1e30f : past;   // every A is negative then: nothing passes
}
