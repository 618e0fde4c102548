// Forward of the fused cross scan, one state. Needs: RESIDENT.

struct Loads {   // of one chunk
  Pack<TD, SPAN> delta;
  Pack<TB, SPAN> B;
  Pack<TC, SPAN> C;
};
struct Rows { const TD* delta; const TB* B; const TC* C; };
DEVICE Rows rows_of(const Fused& s, const Spot& p) {
  const int d = p.own ? p.channel : 0;
  return Rows{(const TD*)s.delta.at + p.batch * s.delta.b + p.direction * s.delta.g + d * s.delta.n,
              (const TB*)s.B.at + p.batch * s.B.b + p.direction * s.B.g,
              (const TC*)s.C.at + p.batch * s.C.b + p.direction * s.C.g};
}
template <bool UP> DEVICE void load_chunk(Loads& in, const Fused& s, const Spot& p, const Rows& rows, int chunk) {
  const int t = first_of(p, chunk);
  load_run<UP>(in.delta, rows.delta, s.delta.l, t, p.own, (int)s.delta.align);
  load_run<UP>(in.B, rows.B, s.B.l, t, p.length, (int)s.B.align);
  load_run<UP>(in.C, rows.C, s.C.l, t, p.length, (int)s.C.align);
}
template <bool UP> DEVICE int chunk_of(const Spot& p, int turn) { return UP ? turn : p.chunks - 1 - turn; }

template <bool UP>
DEVICE void walk(const Fused& s, const Spot& p, const Rows& rows, Loads& next, const TU* image, float* sum) {
  const int at = p.direction * s.channels + p.channel;
  const float a = p.own ? s.A[at] * LOG2E : 0.f, bias = p.own && s.bias ? s.bias[at] : 0.f;
  const float skip = p.own && s.D ? s.D[at] : 0.f;
  float carry = 0.f;
#pragma unroll 1
  for (int turn = 0; turn < p.chunks; turn++) {
    const int chunk = chunk_of<UP>(p, turn), t = first_of(p, chunk);
    Loads in = next;
    Pack<TU, SPAN> u;
    read_run(u, image, t, p.own);
    if (turn + 1 < p.chunks) load_chunk<UP>(next, s, p, rows, chunk_of<UP>(p, turn + 1));
    if (s.saved && p.own && p.lane % LANES == 0)
      s.saved[((i64)(p.batch * 4 + p.direction) * p.chunks + chunk) * s.channels + p.channel] = carry;

    float e[SPAN], x[SPAN], decay = 1.f, h = 0.f;
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
      e[i] = get_run<UP>(in.delta, i) + bias;
      if (SOFTPLUS) e[i] = softplus(e[i], exp_minus_abs(e[i]));
    }
    beyond(e, t, p.own);
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
      const int i = UP ? j : SPAN - 1 - j;
      x[i] = e[i] * get(u, i) * get_run<UP>(in.B, i);
      e[i] = exp2_hw(e[i] * a);
      h = e[i] * h + x[i];
      decay *= e[i];
    }
    h = scan_lanes<UP, LANES>(decay, h, carry, p.lane, carry);
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
      const int i = UP ? j : SPAN - 1 - j;
      h = e[i] * h + x[i];
      x[i] = h * get_run<UP>(in.C, i) + skip * get(u, i);
    }
    if (!UP && turn == p.chunks / 2) meet_opposite(p);
    if (t < p.own) put_run(sum, t, x, 2 * turn + !UP < p.chunks);
    if (UP && turn == (p.chunks - 1) / 2) meet_opposite(p);
  }
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, RESIDENT) fused_forward(const Fused s) {
  SHARED_MEMORY(memory);
  const Spot p = spot_of(s);
  float* sums = (float*)memory;
  TU* images = (TU*)(sums + 2 * CHANNELS * p.padded);
  const Rows rows = rows_of(s, p);
  const int mine = (2 * p.row + by_column(p)) * p.padded;
  Loads next;
  if (onward(p)) load_chunk<true>(next, s, p, rows, chunk_of<true>(p, 0));
  else load_chunk<false>(next, s, p, rows, chunk_of<false>(p, 0));
  bring(s, p, s.x, images);
  sync_block();
  if (onward(p)) walk<true>(s, p, rows, next, images + mine, sums + mine);
  else walk<false>(s, p, rows, next, images + mine, sums + mine);
  sync_block();
  give(s, p, sums, (TO*)s.out);
}
