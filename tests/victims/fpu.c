/* Two threads that spin with all vector registers full, and look at them, MXCSR, the x87 words and the mask registers. */
#include "victim.h"
#include <cpuid.h>

struct registers {
	unsigned char vectors[32][64] __attribute__((aligned(64)));
	uint64_t masks[8];
	uint32_t mxcsr;
	uint16_t x87_control;
	long double x87[3];
};

enum { SSE, AVX, AVX512 };
static int level;
static pthread_t threads[2];

#define EACH16(what) what(0) what(1) what(2) what(3) what(4) what(5) what(6) what(7) what(8) what(9) what(10) what(11) \
	what(12) what(13) what(14) what(15)
#define EACH_HIGH(what) what(16) what(17) what(18) what(19) what(20) what(21) what(22) what(23) what(24) what(25) what(26) \
	what(27) what(28) what(29) what(30) what(31)
#define EACH_MASK(what) what(1) what(2) what(3) what(4) what(5) what(6) what(7)

#define LOAD_X(n) "movdqa " #n "*64(%[from]), %%xmm" #n "\n"
#define STORE_X(n) "movdqa %%xmm" #n ", " #n "*64(%[to])\n"
#define LOAD_Y(n) "vmovdqa " #n "*64(%[from]), %%ymm" #n "\n"
#define STORE_Y(n) "vmovdqa %%ymm" #n ", " #n "*64(%[to])\n"
#define LOAD_Z(n) "vmovdqa64 " #n "*64(%[from]), %%zmm" #n "\n"
#define STORE_Z(n) "vmovdqa64 %%zmm" #n ", " #n "*64(%[to])\n"
#define LOAD_K(n) "kmovq 2048+" #n "*8(%[from]), %%k" #n "\n"
#define STORE_K(n) "kmovq %%k" #n ", 2048+" #n "*8(%[to])\n"
#define SPIN "1: cmpl $0, %[asked]\n jne 2f\n pause\n decq %[turns]\n jnz 1b\n 2:\n"
#define OPERANDS                                                                                             \
	: [turns] "+r"(turns) : [from] "r"(from), [to] "r"(to), [asked] "m"(victim_asked)                    \
	: "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",    \
	  "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static void spin_sse(const struct registers *from, struct registers *to, uint64_t turns)
{
	__asm__ volatile(EACH16(LOAD_X) SPIN EACH16(STORE_X) OPERANDS);
}

__attribute__((target("avx"))) static void spin_avx(const struct registers *from, struct registers *to, uint64_t turns)
{
	__asm__ volatile(EACH16(LOAD_Y) SPIN EACH16(STORE_Y) "vzeroupper\n" OPERANDS);
}

__attribute__((target("avx512f,avx512bw"))) static void spin_avx512(const struct registers *from, struct registers *to,
								      uint64_t turns)
{
	__asm__ volatile(EACH16(LOAD_Z) EACH_HIGH(LOAD_Z) EACH_MASK(LOAD_K) SPIN EACH16(STORE_Z) EACH_HIGH(STORE_Z)
				 EACH_MASK(STORE_K) "vzeroupper\n" OPERANDS);
}

static void *run(void *argument)
{
	long seed = (long)argument;
	static const int widths[] = {16, 32, 64};
	struct registers *from = aligned_alloc(64, (sizeof *from + 63) & ~63UL);
	struct registers *to = aligned_alloc(64, (sizeof *to + 63) & ~63UL);
	memset(from, 0, sizeof *from);
	for (int which = 0; which < 32; which++)
		for (int at = 0; at < 64; at++)
			from->vectors[which][at] = which * 7 + at * 3 + seed * 101 + 1;
	for (int which = 0; which < 8; which++)
		from->masks[which] = 0x0123456789abcdef * (which + seed * 9 + 1);
	/* Rounding upwards or towards zero, other exceptions masked as ever. */
	uint32_t mxcsr = 0x1f80 | (seed ? 0x6000 : 0x4000), mxcsr_now;
	uint16_t control = seed ? 0x0f7f : 0x0b7f, control_now;
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	__asm__ volatile("fldcw %0" : : "m"(control));
	long double pushed = 3.0L + seed, popped;
	__asm__ volatile("fldt %0" : : "m"(pushed));
	do {
		memset(to, 0, sizeof *to);
		if (level == AVX512)
			spin_avx512(from, to, 200000);
		else if (level == AVX)
			spin_avx(from, to, 200000);
		else
			spin_sse(from, to, 200000);
		for (int which = 0; which < (level == AVX512 ? 32 : 16); which++)
			for (int at = 0; at < widths[level]; at++)
				CHECK(to->vectors[which][at] == from->vectors[which][at],
				      "thread %ld: vector register %d, byte %d: %02x, wanted %02x", seed, which, at,
				      to->vectors[which][at], from->vectors[which][at]);
		for (int which = 1; level == AVX512 && which < 8; which++)
			CHECK(to->masks[which] == from->masks[which], "thread %ld: mask register %d: %lx", seed, which,
			      to->masks[which]);
		__asm__ volatile("stmxcsr %0" : "=m"(mxcsr_now));
		__asm__ volatile("fnstcw %0" : "=m"(control_now));
		CHECK(mxcsr_now == mxcsr, "thread %ld: MXCSR %x, wanted %x", seed, mxcsr_now, mxcsr);
		CHECK(control_now == control, "thread %ld: x87 control word %x, wanted %x", seed, control_now, control);
	} while (!victim_asked);
	__asm__ volatile("fstpt %0" : "=m"(popped));
	CHECK(popped == pushed, "thread %ld: x87 stack", seed);
	return NULL;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
		level = AVX512;
	else if (__builtin_cpu_supports("avx2"))
		level = AVX;
	for (long seed = 0; seed < 2; seed++)
		CHECK(!pthread_create(&threads[seed], NULL, run, (void *)seed), "set-up: pthread_create");
	usleep(50000);
	victim_ready();
	victim_wait();
	for (int seed = 0; seed < 2; seed++)
		pthread_join(threads[seed], NULL);
	return victim_pass();
}
