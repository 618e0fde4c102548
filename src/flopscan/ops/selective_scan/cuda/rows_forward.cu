// Forward, one state. Needs: SPAN, ROWS, HAS_Z, RESIDENT.

struct Loads {
  Pack<TU, SPAN> u;
  Pack<TD, SPAN> delta;
#if HAS_Z
  Pack<TZ, SPAN> z;
#endif
};
DEVICE void load_row(Loads& in, const Scan& s, const Place& p, int k, int t) {
  bool valid = p.channel + k < p.limit;
  int d = valid ? p.channel + k : 0, length = valid ? s.length : 0;
  load(in.u, row<TU>(s.u, p.batch, d), s.u.l, t, length, (int)s.u.align);
  load(in.delta, row<TD>(s.delta, p.batch, d), s.delta.l, t, length, (int)s.delta.align);
#if HAS_Z
  load(in.z, row<TZ>(s.z, p.batch, d), s.z.l, t, length, (int)s.z.align);
#endif
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS, RESIDENT) rows_forward(const Scan s) {
  __shared__ Channel channels[WARPS][ROWS];
  Place p = place(s);
  Channel* mine = channels[p.warp];
  fill_channels(mine, s, p, s.initial);
  int chunks = (s.length + CHUNK - 1) / CHUNK;
  Pack<TB, SPAN> B;
  Pack<TC, SPAN> C;
  Loads next;
  load_row(next, s, p, 0, p.lane * SPAN);
#pragma unroll 1
  for (int turn = 0, chunk = 0, k = 0; turn < chunks * ROWS; turn++) {
    int t = chunk * CHUNK + p.lane * SPAN, d = p.channel + k, length = d < p.limit ? s.length : 0;
    if (k == 0) {
      load(B, row<TB>(s.B, p.batch, p.group), s.B.l, t, s.length, (int)s.B.align);
      load(C, row<TC>(s.C, p.batch, p.group), s.C.l, t, s.length, (int)s.C.align);
    }
    Loads in = next;
    Channel at = read_channel(mine + k);
    int next_k = k + 1 < ROWS ? k + 1 : 0, next_chunk = chunk + (next_k == 0);
    if (next_chunk < chunks) load_row(next, s, p, next_k, next_chunk * CHUNK + p.lane * SPAN);

    if (s.saved && p.lane == 0 && length) s.saved[((i64)p.batch * chunks + chunk) * s.channels + d] = at.carry;
    float e[SPAN], x[SPAN], decay = 1.f, h = 0.f, leaves;
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
      e[i] = get(in.delta, i) + at.bias;
      if (s.softplus) e[i] = softplus(e[i], exp_minus_abs(e[i]));
    }
    beyond(e, t, length);
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
      x[i] = e[i] * get(in.u, i) * get(B, i);
      e[i] = exp2_hw(e[i] * (at.a * LOG2E));
      h = e[i] * h + x[i];
      decay *= e[i];
    }
    h = scan_lanes<true>(decay, h, at.carry, p.lane, leaves);
    if (p.lane == 0) mine[k].carry = leaves;
    float out[SPAN];
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
      h = e[i] * h + x[i];
      out[i] = h * get(C, i) + at.skip * get(in.u, i);
#if HAS_Z
      float gate = get(in.z, i);
      out[i] *= gate * sigmoid(gate);
#endif
    }
    store((TO*)s.out + ((i64)p.batch * s.channels + d) * s.length, t, length, s.out_align, out);
    if (s.last && chunk == chunks - 1 && p.lane == 0 && length) s.last[(i64)p.batch * s.channels + d] = leaves;
    k = next_k; chunk = next_chunk;
    sync_warp();
  }
}
