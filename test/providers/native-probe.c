/*
 * Runs a list of segment operations natively and tells what the kernel answered. It has no C library, so that it may
 * change every TLS entry and base it likes. Operations come on stdin, 8 words each: op, a, b, 0, user_desc (4 words).
 * For each, 16 words go to stdout: result, value (2 words), user_desc (4), ds, es, fs, gs, 0, FS base (2), GS base (2).
 */
typedef unsigned int u32;
typedef unsigned long word;

enum { SET_THREAD_AREA, GET_THREAD_AREA, SET_LDT_LEGACY, SET_LDT, READ_LDT, LAR, LOAD, PEEK, ARCH_PRCTL };
enum { DS, ES, FS, GS };
#define MAX_OPS 100000

static u32 input[MAX_OPS][8], output[MAX_OPS][16];
static u32 ldt[8192 * 2];
/* What a segment base can point to for PEEK; the address is fixed as the program is linked at a fixed one. */
u32 cells[2] __attribute__((section(".cells"))) = { 0xce110000, 0xce110001 };

/* The i386 table; a 64-bit process may use it too, with pointers below 4 GiB. */
static int int80(u32 number, word a, word b, word c)
{
	int result;
#ifdef __x86_64__
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c)
		: "memory", "cc", "r8", "r9", "r10", "r11");
#else
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "cc");
#endif
	return result;
}

#ifdef __x86_64__
static long syscall3(long number, word a, word b, word c)
{
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "memory", "cc", "rcx", "r11");
	return result;
}
#define modify_ldt(func, pointer, size) ((int)syscall3(154, func, (word)(pointer), size))
#else
#define modify_ldt(func, pointer, size) int80(123, func, (word)(pointer), size)
#endif

static u32 selector(int segment)
{
	u32 value;
	if (segment == DS)
		__asm__ volatile("mov %%ds, %0" : "=r"(value));
	else if (segment == ES)
		__asm__ volatile("mov %%es, %0" : "=r"(value));
	else if (segment == FS)
		__asm__ volatile("mov %%fs, %0" : "=r"(value));
	else
		__asm__ volatile("mov %%gs, %0" : "=r"(value));
	return value & 0xffff;
}

/* The access rights of a selector; 0 where user mode cannot see them. */
static u32 lar(u32 value)
{
	u32 rights = 0;
	__asm__ volatile("lar %1, %0" : "+r"(rights) : "r"(value) : "cc");
	return rights & 0x00f0ff00;
}

/* Loads a selector where that cannot fault: present, and data or readable code. */
static int load(int segment, u32 value)
{
	u32 rights = lar(value);
	if (!(rights & 0x8000) || ((rights & 0x800) && !(rights & 0x200)))
		return 0;
	if (segment == DS)
		__asm__ volatile("mov %0, %%ds" : : "r"(value));
	else if (segment == ES)
		__asm__ volatile("mov %0, %%es" : : "r"(value));
	else if (segment == FS)
		__asm__ volatile("mov %0, %%fs" : : "r"(value));
	else
		__asm__ volatile("mov %0, %%gs" : : "r"(value));
	return 1;
}

/* The word at offset 0 of a segment. */
static u32 peek(int segment)
{
	u32 value = 0;
	if (segment == ES)
		__asm__ volatile("movl %%es:(%1), %0" : "=r"(value) : "r"((word)0));
	else if (segment == FS)
		__asm__ volatile("movl %%fs:(%1), %0" : "=r"(value) : "r"((word)0));
	else if (segment == GS)
		__asm__ volatile("movl %%gs:(%1), %0" : "=r"(value) : "r"((word)0));
	return value;
}

#ifdef __x86_64__
static void bases(u32 *out)
{
	word *wide = (word *)out;
	/* By the kernel, as FSGSBASE may be off. */
	syscall3(158, 0x1003, (word)&wide[0], 0);
	syscall3(158, 0x1004, (word)&wide[1], 0);
}
#else
static void bases(u32 *out)
{
	out[0] = out[1] = out[2] = out[3] = 0;
}
#endif

static void run(u32 *in, u32 *out)
{
	u32 *desc = in + 4;
	int i;
	switch (in[0]) {
	case SET_THREAD_AREA:
		out[0] = int80(243, (word)desc, 0, 0);
		break;
	case GET_THREAD_AREA:
		out[0] = int80(244, (word)desc, 0, 0);
		break;
	case SET_LDT_LEGACY:
		out[0] = modify_ldt(1, desc, 16);
		break;
	case SET_LDT:
		out[0] = modify_ldt(0x11, desc, 16);
		break;
	case READ_LDT:
		ldt[in[1] * 2] = ldt[in[1] * 2 + 1] = 0;
		out[0] = modify_ldt(0, ldt, in[1] * 8 + 8);
		out[1] = ldt[in[1] * 2];
		out[2] = ldt[in[1] * 2 + 1];
		break;
	case LAR:
		out[1] = lar(in[1]);
		break;
	case LOAD:
		out[0] = load(in[1], in[2]);
		break;
	case PEEK:
		out[1] = peek(in[1]);
		break;
#ifdef __x86_64__
	case ARCH_PRCTL:
		out[0] = syscall3(158, in[1], in[2] | (word)in[3] << 32, 0);
		break;
#endif
	}
	for (i = 0; i < 4; i++)
		out[3 + i] = desc[i];
	for (i = DS; i <= GS; i++)
		out[7 + i] = selector(i);
	bases(out + 12);
}

__attribute__((force_align_arg_pointer, used)) void _start(void)
{
	u32 length = 0, written = 0, count, i;
	int got;
	while ((got = int80(3, 0, (word)input + length, sizeof input - length)) > 0)
		length += got;
	count = length / sizeof input[0];
	for (i = 0; i < count; i++)
		run(input[i], output[i]);
	while (written < count * sizeof output[0]) {
		got = int80(4, 1, (word)output + written, count * sizeof output[0] - written);
		if (got <= 0)
			break;
		written += got;
	}
	int80(1, 0, 0, 0);
	for (;;)
		;
}
