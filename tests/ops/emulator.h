// The CUDA that the kernels of the selective scan use, for g++: the threads of a block are fibers on one thread of the
// machine, blocks run one after the other. Shared memory is filled with NaN before each block.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>
#include <ucontext.h>

#define FLOPSCAN_EMULATED
#define __global__
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define DEVICE static inline
#define LAUNCH_BOUNDS(threads, blocks)
#define SHARED_MEMORY(name) words4* name = (words4*)emulator::dynamic

typedef unsigned short u16;
typedef unsigned int u32;
struct __align__(8) words2 { u32 x, y; };
struct __align__(16) words4 { u32 x, y, z, w; };
struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx;

namespace emulator {

struct Fiber { void* stack_pointer; char* stack; ucontext_t context; bool done; Index index; };
static std::vector<Fiber> fibers;
static int running, alive;
static char* dynamic;

#if defined(__x86_64__)
// Saves what a call must leave as it was, and goes on where `to` stopped.
extern "C" void emulator_switch(void** from, void* to);
asm(R"(
.text
.type emulator_switch, @function
emulator_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");
static void* scheduler;
static void to_scheduler() { emulator_switch(&fibers[running].stack_pointer, scheduler); }
static void to_fiber(int i) { emulator_switch(&scheduler, fibers[i].stack_pointer); }
static void prepare(Fiber& f, void (*entry)(), size_t bytes) {
  void** top = (void**)(((uintptr_t)f.stack + bytes) & ~(uintptr_t)63);
  *--top = nullptr;          // where a return address of `entry` would be
  *--top = (void*)entry;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  f.stack_pointer = top;
}
#else
static ucontext_t scheduler;
static void to_scheduler() { swapcontext(&fibers[running].context, &scheduler); }
static void to_fiber(int i) { swapcontext(&scheduler, &fibers[i].context); }
static void prepare(Fiber& f, void (*entry)(), size_t bytes) {
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack; f.context.uc_stack.ss_size = bytes; f.context.uc_link = &scheduler;
  makecontext(&f.context, entry, 0);
}
#endif

struct Barrier { int arrived = 0, generation = 0; };
static Barrier block_barrier, warp_barriers[32], some_barriers[16];

static void wait(Barrier& b, int of) {
  int mine = b.generation;
  if (++b.arrived == of) { b.arrived = 0; b.generation++; }
  while (b.generation == mine) to_scheduler();
}
static int threads() { return (int)fibers.size(); }

static float exchanged[2][1024];
static int parity[1024];
static float exchange(float v, int from) {   // what lane `from` of this warp gives
  int tid = (int)threadIdx.x, warp = tid / 32, half = parity[tid] ^= 1;
  exchanged[half][tid] = v;
  wait(warp_barriers[warp], 32);
  return exchanged[half][warp * 32 + from];
}

static void (*body)();
static void entry() {
  body();
  fibers[running].done = true;
  alive--;
  for (;;) to_scheduler();
}

static void run_block(int count, size_t shared, Index block) {
  const size_t stack = 128 * 1024;
  if ((int)fibers.size() != count) {
    for (auto& f : fibers) free(f.stack);
    fibers.assign(count, Fiber());
    for (auto& f : fibers) f.stack = (char*)malloc(stack);
  }
  std::vector<float> memory(shared / 4 + 8, std::numeric_limits<float>::quiet_NaN());
  dynamic = (char*)(((uintptr_t)memory.data() + 15) & ~(uintptr_t)15);
  blockIdx = block;
  for (int i = 0; i < count; i++) { fibers[i].done = false; prepare(fibers[i], entry, stack); }
  for (alive = count; alive;) {
    // the other way round in odd blocks: no order may be relied on
    for (int k = 0; k < count; k++) {
      running = block.x % 2 ? count - 1 - k : k;
      if (fibers[running].done) continue;
      threadIdx = Index{(unsigned)running, 0, 0};
      to_fiber(running);
    }
  }
}

}  // namespace emulator

static inline float as_float(u32 x) { float y; memcpy(&y, &x, 4); return y; }
static inline u32 as_bits(float x) { u32 y; memcpy(&y, &x, 4); return y; }
static inline float flush_to_zero(float x) { return std::fabs(x) < 1.17549435e-38f ? std::copysign(0.f, x) : x; }
static inline float exp2_hw(float x) { return flush_to_zero(exp2f(flush_to_zero(x))); }
static inline float reciprocal(float x) { return flush_to_zero(1.f / flush_to_zero(x)); }
static inline float from_half(u16 x) { _Float16 y; memcpy(&y, &x, 2); return (float)y; }
static inline u32 half_bits(float x) { _Float16 y = (_Float16)x; u16 bits; memcpy(&bits, &y, 2); return bits; }
static inline u32 pack_half(float lo, float hi) { return half_bits(lo) | half_bits(hi) << 16; }
static inline u32 bfloat_bits(float x) {
  u32 bits = as_bits(x);
  if (x != x) return 0x7fff;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static inline u32 pack_bfloat(float lo, float hi) { return bfloat_bits(lo) | bfloat_bits(hi) << 16; }
template <class V> static inline V load_once(const V* at) { return *at; }
template <class T> static inline T* opaque(T* p) { return p; }
static inline int opaque(int x) { return x; }
static inline void store_now(words4* at, words4 v) { *at = v; }
template <class V> static inline V load_now(const V* at) { return *at; }
static inline void stop() { abort(); }
static inline float shuffle_xor(float v, int mask) { return emulator::exchange(v, (threadIdx.x & 31) ^ mask); }
static inline float shuffle_up(float v, int by) {
  int lane = threadIdx.x & 31;
  return emulator::exchange(v, lane >= by ? lane - by : lane);
}
static inline float shuffle_down(float v, int by) {
  int lane = threadIdx.x & 31;
  return emulator::exchange(v, lane + by < 32 ? lane + by : lane);
}
static inline float shuffle_from(float v, int lane) { return emulator::exchange(v, lane); }
static inline void sync_warp() { emulator::wait(emulator::warp_barriers[threadIdx.x / 32], 32); }
static inline void sync_some(int barrier, int threads) { emulator::wait(emulator::some_barriers[barrier], threads); }
static inline void sync_block() { emulator::wait(emulator::block_barrier, emulator::threads()); }
static inline bool all_of_block(bool x) {
  static int votes[2];
  static int turn[1024];
  int mine = turn[threadIdx.x] ^= 1;
  votes[mine] += x;
  sync_block();
  bool all = votes[mine] == emulator::threads();
  sync_block();
  votes[mine] = 0;
  sync_block();
  return all;
}
static inline void add_to(float* at, float v) { *at += v; }
